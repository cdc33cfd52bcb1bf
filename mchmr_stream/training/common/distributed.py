"""Distributed training of one network: ranks and their communication.

torchrun starts the processes and gives their number in the environment; without it there is one. Each process computes its rows of a
batch. The inputs of the losses are gathered, so that each process computes the loss of the *full* batch (the contrastive loss compares
all people with each other), and gradients are summed: the step equals that of one process with all rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mchmr_stream.errors import UsageError
from mchmr_stream.network.weights import pick_device


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among `count` processes."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """Return the rows of a batch that this process computes.

        Raises:
            UsageError: the batch cannot be divided evenly.
        """
        if batch % self.count:
            raise UsageError(f"{batch} people per step cannot be shared out evenly to {self.count} processes; make it a multiple of them")
        each = batch // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def gather(self, values: Tensor) -> Tensor:
        """Concatenate the values of all processes: (n, ...) -> (count n, ...); gradients flow to this process's own rows.

        Each process must compute the same from the result, as the gradient is not communicated.
        """
        return values if self.count == 1 else _Gather.apply(values, self)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of all processes, in place."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, answer: bool) -> bool:
        """Return True on all processes if `answer` is True on any."""
        if self.count == 1:
            return answer
        flag = torch.tensor(float(answer), device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)


ALONE = Ranks(0, 1, torch.device("cpu"))


@contextmanager
def open_ranks(device: str) -> Iterator[Ranks]:
    """Connect to the processes that torchrun started, or yield this process alone.

    Raises:
        MissingPart: the device is not available.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(0, 1, pick_device(device))
        return
    on = pick_device(device)
    if on.type == "cuda":
        on = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(on)
    dist.init_process_group("nccl" if on.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), count, on)
    finally:
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(values) for _ in range(ranks.count)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].chunk(ctx.ranks.count)[ctx.ranks.rank], None


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each process's value contributes to all results, so its gradient is the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.Module):
    """A batch norm whose training mean and variance are computed over all processes, each with the same number of rows.

    torch's own SyncBatchNorm runs on GPUs only, so that two CPU processes could not test it. This one replaces `norm` and shares its
    parameters and running values under the same names.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, ranks: Ranks) -> None:
        super().__init__()
        assert norm.momentum is not None
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self._count = ranks.count

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, ...)."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        if not self.training:
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        over = [0, *range(2, x.ndim)]
        wide = x if x.dtype == torch.float64 else x.float()
        number = wide.numel() // wide.shape[1] * self._count
        mean = _Sum.apply(wide.sum(over)) / number
        centred = wide - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(over)) / number
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (number / max(1, number - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        y = centred * (self.weight * (variance + self.eps).rsqrt()).view(shape) + self.bias.view(shape)
        return y.to(x.dtype)


def share_batch_norms(module: nn.Module, ranks: Ranks) -> None:
    """Replace each batch norm below `module` by a `SharedBatchNorm`; with one process nothing changes."""
    if ranks.count == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, SharedBatchNorm(child, ranks))
        else:
            share_batch_norms(child, ranks)
