"""Import of published checkpoints into networks and encoders of this package.

The modules are named like the published ones, so that a layout is a few prefixes; the shapes of the published tensors determine
encoder, number of views and fusion. docs/paper.md describes each layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mchmr_stream.checkpoints.foreign_layouts import read_tensors
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.files.safe_tensors import write_tensors
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.network.encoders import Encoder, make_encoder
from mchmr_stream.network.mesh_network import MultiCropNet, NetworkConfig
from mchmr_stream.network.weights import save_network

NETWORK_LAYOUTS = ("multi-roi", "cliff")
"""Encoder and head: the result is a network, for `network.weights`."""
ENCODER_LAYOUTS = ("torchvision", "timm", "coco-pose", "hmr2")
"""An encoder for the start of a training: the result is for `make_encoder(name, file)`."""
LAYOUTS = NETWORK_LAYOUTS + ENCODER_LAYOUTS

_REGRESSOR_STATE = 24 * 6 + 10 + 3
_DROPOUT = 0.5
"""Dropout of all published trainings; checkpoints do not record it."""
_FUSION_PARTS = ("fuse_fc.", "attention.")
_COUNTER = "num_batches_tracked"
"""Of each batch norm: a count of training steps that is not used here."""

_VIT_PATCHES = "backbone.patch_embed.proj.weight"

# Tensors of a layout that are not imported, and those that it may lack; all others are either required or unknown.
_NOT_USED = {
    "multi-roi": ("backbone.final_layer.", "pos_enc."),
    "cliff": (),
    "torchvision": ("fc.",),
    "timm": ("fc.", "classifier.", "incre_modules.", "downsamp_modules.", "final_layer."),
    "coco-pose": ("final_layer.", "deconv_layers."),
    "hmr2": ("smpl_head.", "discriminator.", "smpl.", "initialized"),
}
_MAY_LACK = {
    "multi-roi": ("head.proj_head.",),
    "cliff": (),
    "torchvision": (),
    "timm": ("downsample_stage_",),
    "coco-pose": ("downsample_stage_", "stage4.2.fuse_layers.1.", "stage4.2.fuse_layers.2.", "stage4.2.fuse_layers.3."),
    "hmr2": (),
}


@dataclass(frozen=True)
class Imported:
    """Result of an import. Lists hold names of tensors: published ones, in `started_anew` this package's."""

    layout: str
    encoder: str
    views: int | None
    """that the network is made for; None: any, or a single encoder"""
    taken: int
    not_used: list[str]
    """part of the layout, but not used here"""
    unknown: list[str]
    """not part of the layout"""
    started_anew: list[str]
    """missing in the file; randomly initialised, for training"""


def import_weights(source: Path, layout: str, out: Path) -> Imported:
    """Convert a published checkpoint to a .safetensors file with its provenance.

    Args:
        source: The checkpoint.
        layout: One of `LAYOUTS`.
        out: The output; nothing is written on an error.

    Returns:
        The tensors that were imported and left out.

    Raises:
        UsageError: The layout or the output's name is invalid.
        MissingPart: The checkpoint does not exist.
        InputError: It cannot be read, has another layout or architecture, or values that are not finite.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if out.suffix != ".safetensors":
        raise UsageError(f"output is {out}, expected a name that ends in .safetensors")
    refuse_to_replace([source], [out])
    published = read_tensors(source)
    # Random initialisation is the same every time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _import(published, source, layout, out)


def _import(published: dict[str, Tensor], source: Path, layout: str, out: Path) -> Imported:
    file = _Checkpoint(published, source, layout)
    if layout in ENCODER_LAYOUTS:
        prefix, name = file.encoder_alone()
        encoder = make_encoder(name, pretrained=False)
        result = file.fill(encoder, prefix, encoder.name, None)
        _save_encoder(out, encoder, file.provenance(result))
        return result
    trunk, encoder_name = file.trunk()
    net = MultiCropNet(file.config(encoder_name)).eval()
    result = file.fill(net, trunk, encoder_name, net.config.fixed_views)
    save_network(out, net, file.provenance(result), half=False)
    return result


class _Checkpoint:
    """Published tensors, and their architecture by names and shapes."""

    def __init__(self, tensors: dict[str, Tensor], path: Path, layout: str) -> None:
        self.tensors, self.path, self.layout = tensors, path, layout

    def trunk(self) -> tuple[str, str]:
        """Prefix of the encoder in a whole network, and its name in this package."""
        prefixes = ("", "backbone.") if self.layout == "multi-roi" else ("encoder.", "")
        hrnet = "hrnet_w48" if self.layout == "multi-roi" else "hrnet_w48_classifier"
        for prefix in prefixes:
            if f"{prefix}layer4.0.conv1.weight" in self.tensors:
                return prefix, "resnet50"
            if f"{prefix}stage4.0.branches.0.0.conv1.weight" in self.tensors:
                return prefix, hrnet
        raise self._other("no ResNet-50 and no HRNet-W48 in it")

    def encoder_alone(self) -> tuple[str, str]:
        """Prefix of the encoder, and its name in this package. Of HMR2.0 only the backbone is imported."""
        if self.layout == "hmr2":
            if _VIT_PATCHES not in self.tensors:
                raise self._other(f"it lacks {_VIT_PATCHES}, HMR2.0's vision transformer")
            return "backbone.", "vit_h"
        if "layer4.0.conv1.weight" in self.tensors:
            return "", "resnet50"
        if "stage4.0.branches.0.0.conv1.weight" in self.tensors:
            return "", "hrnet_w48"
        raise self._other("no ResNet-50 and no HRNet-W48 in it")

    def config(self, encoder: str) -> NetworkConfig:
        """Settings of the network that fits the head's tensors."""
        feature_dim = make_encoder(encoder, pretrained=False).feature_dim
        regressor_dim, regressor_in = self._shape("fc1.weight")
        views, rest = divmod(regressor_in - feature_dim - _REGRESSOR_STATE, 3)
        if views < 1 or rest:
            raise self._other(f"fc1.weight reads {regressor_in} numbers, which does not go with {feature_dim} features of {encoder}")
        common: dict[str, Any] = {
            "encoder": encoder,
            "head": "paper",
            "concat_views": views,
            "regressor_dim": regressor_dim,
            "dropout": 0.5,
        }
        if self.layout == "cliff" or "fuse_fc.weight" not in self.tensors:
            # Without fusion, views are processed one by one, or, in the authors' ablation, each with the box information of all.
            if self.layout == "cliff" and views != 1:
                raise self._other(f"fc1.weight reads the box information of {views} crops")
            return NetworkConfig(**common, fusion="none", bodies="shared" if views == 1 else "per_view")
        if views < 2:
            raise self._other("fc1.weight reads the box information of one crop, which nothing can be fused with")
        token_dim, token_in = self._shape("fuse_fc.weight")
        frequencies, rest = divmod(token_in - feature_dim - 3, 6)
        has_relations = token_in != feature_dim
        if has_relations and (rest or frequencies < 1):
            raise self._other(f"fuse_fc.weight reads {token_in} numbers, which does not go with {feature_dim} features of {encoder}")
        if has_relations:
            self._check_encoding(frequencies)
        fusion: dict[str, Any] = {
            "fusion": "paper",
            "token_dim": token_dim,
            "relative_encoding": has_relations,
            "frequencies": frequencies if has_relations else 32,
        }
        return NetworkConfig(**common, **fusion, bodies="per_view")

    def _check_encoding(self, frequencies: int) -> None:
        """Check the tables of the positional encoding, which are constants here: weights for other tables would give wrong results."""
        expected = {
            "pos_enc._freqs": torch.tensor([math.pi * 2.0**k for k in range(frequencies)]).repeat_interleave(2),
            "pos_enc._phases": torch.tensor([0.0, math.pi / 2]).repeat(frequencies),
        }
        for name, values in expected.items():
            given = self.tensors.get(name)
            if given is not None and not (given.numel() == len(values) and torch.allclose(given.float().flatten(), values, rtol=1e-6)):
                raise self._other(f"its positional encoding {name} is not the published one")

    def fill(self, module: nn.Module, trunk: str, encoder: str, views: int | None) -> Imported:
        """Load all available tensors into `module`. Raises InputError when a required one is missing or has another shape."""
        state = module.state_dict()
        taken: dict[str, Tensor] = {}
        names: set[str] = set()
        missing: list[str] = []
        anew: list[str] = []
        for ours, expected in state.items():
            theirs = published_name(ours, trunk)
            given = self.tensors.get(theirs)
            if given is None:
                optional = ours.endswith(_COUNTER) or ours.startswith(_MAY_LACK[self.layout])
                (anew if optional else missing).append(ours if optional else theirs)
                continue
            if given.shape != expected.shape:
                raise self._other(f"{theirs} is {tuple(given.shape)}, expected {tuple(expected.shape)}")
            if given.is_floating_point() and not torch.isfinite(given).all():
                raise InputError(f"checkpoint {self.path}: {theirs} holds values that are not finite")
            names.add(theirs)
            taken[ours] = given.to(expected.dtype)
        if missing:
            raise self._other(f"it lacks {len(missing)} of {len(state)} tensors, first {_first(missing)}")
        module.load_state_dict({**state, **taken})
        left = [name for name in self.tensors if name not in names]
        not_used = [name for name in left if name.startswith(_NOT_USED[self.layout]) or name.endswith(_COUNTER)]
        unknown = [name for name in left if name not in not_used]
        anew = [name for name in anew if not name.endswith(_COUNTER)]
        return Imported(self.layout, encoder, views, len(taken), not_used, unknown, anew)

    def provenance(self, result: Imported) -> dict[str, Any]:
        """Provenance for the header of the output."""
        from mchmr_stream import __version__

        of_body = {"body": "smpl"} if self.layout in NETWORK_LAYOUTS else {}
        return {
            "imported_from": self.path.name,
            "source_sha256": sha256_of_file(self.path),
            "layout": self.layout,
            "imported_by": f"mchmr-stream {__version__}",
            "left_out": sorted(result.not_used + result.unknown),
            "started_anew": result.started_anew,
            **of_body,
        }

    def _shape(self, name: str) -> tuple[int, int]:
        given = self.tensors.get(name)
        if given is None or given.ndim != 2:
            raise self._other(f"it lacks {name}" if given is None else f"{name} is {tuple(given.shape)}, expected a matrix")
        return int(given.shape[0]), int(given.shape[1])

    def _other(self, why: str) -> InputError:
        likely = likely_layout(self.tensors)
        hint = f"; it looks like {likely}, try --from {likely}" if likely not in (None, self.layout) else ""
        return InputError(f"{self.path} is no checkpoint of layout {self.layout}: {why}{hint}")


def published_name(ours: str, trunk: str) -> str:
    """Translate a tensor's name.

    Args:
        ours: Name in this package.
        trunk: Prefix of the encoder in the published file.

    Returns:
        Name in the published file.
    """
    part, _, rest = ours.partition(".")
    if part == "encoder":
        return trunk + rest
    if part != "head":
        return trunk + ours
    published = rest.removeprefix("fusion.0.")
    return published if published.startswith(_FUSION_PARTS) else rest


def likely_layout(names: Sequence[str] | dict[str, Tensor]) -> str | None:
    """Guess the layout from tensor names; None if it is unknown."""
    if "decpose.weight" in names:
        return "cliff" if any(name.startswith("encoder.") for name in names) else "multi-roi"
    if _VIT_PATCHES in names:
        return "hmr2"
    if any(name.startswith("deconv_layers.") for name in names):
        return "coco-pose"
    if "layer4.0.conv1.weight" in names:
        return "torchvision"
    if "stage4.0.branches.0.0.conv1.weight" in names:
        return "timm" if any(name.startswith("incre_modules.") for name in names) else "coco-pose"
    return None


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _save_encoder(out: Path, encoder: Encoder, provenance: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(
        out, encoder.state_dict(), {"encoder": encoder.name, "provenance": json.dumps(provenance), "format": "mchmr-stream encoder 1"}
    )
