"""Fast execution of a convolutional network on a CPU: oneDNN computes convolution, bias, sum and activation in one kernel.

PyTorch uses these kernels for a traced and frozen TorchScript module with `torch.jit.enable_onednn_fusion`. On two cores this halves
MoveNet's time and, unlike torch.compile, needs no compiler.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

_MAX_SHAPES = 4
"""Maximum number of compiled forms; a stream has one shape, so more occur only for folders of mixed pictures."""


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16 products; without them float32 is faster."""
    capabilities: Callable[[], dict[str, Any]] | None = getattr(torch.cpu, "get_capabilities", None)  # PyTorch 2.4 has none
    found = capabilities() if capabilities is not None else {}
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class OneDnnModule:
    """Runs `module` (evaluation mode, on the CPU) in a fused form, compiled once for every input shape.

    The first call with a shape takes about a second. `module` must take one tensor and have no data-dependent control flow. The outputs are
    the module's own up to rounding; named tuples are returned as plain ones. The module itself is converted too.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype | None) -> None:
        """`dtype` None keeps the parameters' types, for a module that mixes them."""
        self._module = module.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload] # lacks memory_format
        self._by_shape: dict[tuple[int, ...], Callable[[Tensor], Any]] = {}
        self._compiling = threading.Lock()

    def __call__(self, x: Tensor) -> Any:
        x = x.contiguous(memory_format=torch.channels_last)
        shape = tuple(x.shape)
        compiled = self._by_shape.get(shape)
        if compiled is None:
            with self._compiling:  # several threads may have the same new shape at the same time
                if shape not in self._by_shape:
                    if len(self._by_shape) >= _MAX_SHAPES:
                        del self._by_shape[next(iter(self._by_shape))]
                    self._by_shape[shape] = _compile(self._module, x)
                compiled = self._by_shape[shape]
        with torch.inference_mode():
            return compiled(x)


def _compile(module: nn.Module, example: Tensor) -> Callable[[Tensor], Any]:
    if not torch.backends.mkldnn.is_available():
        log.warning("this PyTorch has no oneDNN: the network runs unfused on the CPU, at about half the speed")
        return module
    with _fusion_enabled(), torch.no_grad(), warnings.catch_warnings():
        # TorchScript is in maintenance; its successors need a compiler on the user's machine.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Constant folding would merge a bias that a module splits in two because bfloat16 cannot represent it.
        frozen = torch.jit.freeze(torch.jit.trace(module, example, check_trace=False), optimize_numerics=False)
    with _fusion_enabled(), torch.inference_mode():
        for _ in range(2):  # the first run records shapes, the second fuses
            frozen(example)
    return frozen


_COMPILING = threading.RLock()


@contextmanager
def _fusion_enabled() -> Iterator[None]:
    """Enable fusion temporarily.

    The setting is global to the process: it is restored for other users of TorchScript, and a lock serialises its use.
    """
    with _COMPILING:
        before = torch.jit.onednn_fusion_enabled()
        torch.jit.enable_onednn_fusion(True)
        try:
            yield
        finally:
            torch.jit.enable_onednn_fusion(before)
