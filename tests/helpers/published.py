"""Published networks for tests: which tensors their checkpoints hold, and what they compute with them.

Written from descriptions of the layouts, one operation after the other and by name, to compare the package with. Nothing
of the package is used here, nor any module of torch.nn that could hide a mistake that both sides make.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, Tensor]

HRNET_WIDTHS = (48, 96, 192, 384)
HRNET_MODULES = {2: 1, 3: 4, 4: 3}


# ---- which tensors there are --------------------------------------------------------------------------------------------


def norm(name: str, channels: int) -> Shapes:
    shapes: Shapes = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**shapes, f"{name}.num_batches_tracked": ()}


def bottleneck(name: str, channels: int, width: int, shortcut: bool) -> Shapes:
    shapes: Shapes = {
        f"{name}.conv1.weight": (width, channels, 1, 1),
        f"{name}.conv2.weight": (width, width, 3, 3),
        f"{name}.conv3.weight": (4 * width, width, 1, 1),
    }
    shapes |= norm(f"{name}.bn1", width) | norm(f"{name}.bn2", width) | norm(f"{name}.bn3", 4 * width)
    if shortcut:
        shapes |= {f"{name}.downsample.0.weight": (4 * width, channels, 1, 1)} | norm(f"{name}.downsample.1", 4 * width)
    return shapes


def conv_and_norm(name: str, channels: int, out: int, kernel: int, bias: bool = False) -> Shapes:
    shapes: Shapes = {f"{name}.0.weight": (out, channels, kernel, kernel)}
    if bias:
        shapes[f"{name}.0.bias"] = (out,)
    return shapes | norm(f"{name}.1", out)


def resnet50() -> Shapes:
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    channels = 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
        for block in range(blocks):
            shapes |= bottleneck(f"layer{stage}.{block}", channels, width, shortcut=block == 0)
            channels = 4 * width
    return shapes


def hrnet_trunk(last_module_all_scales: bool = True) -> Shapes:
    """The COCO-pose checkpoint's last module makes the finest map only."""
    shapes: Shapes = {"conv1.weight": (64, 3, 3, 3), "conv2.weight": (64, 64, 3, 3)} | norm("bn1", 64) | norm("bn2", 64)
    for block in range(4):
        shapes |= bottleneck(f"layer1.{block}", 64 if block == 0 else 256, 64, shortcut=block == 0)
    shapes |= conv_and_norm("transition1.0", 256, 48, 3) | conv_and_norm("transition1.1.0", 256, 96, 3)
    shapes |= conv_and_norm("transition2.2.0", 96, 192, 3) | conv_and_norm("transition3.3.0", 192, 384, 3)
    for stage, modules in HRNET_MODULES.items():
        for module in range(modules):
            name = f"stage{stage}.{module}"
            for branch in range(stage):
                width = HRNET_WIDTHS[branch]
                for block in range(4):
                    at = f"{name}.branches.{branch}.{block}"
                    shapes |= {f"{at}.conv1.weight": (width, width, 3, 3), f"{at}.conv2.weight": (width, width, 3, 3)}
                    shapes |= norm(f"{at}.bn1", width) | norm(f"{at}.bn2", width)
            last = stage == 4 and module == modules - 1
            for target in range(stage if last_module_all_scales or not last else 1):
                for source in range(stage):
                    at = f"{name}.fuse_layers.{target}.{source}"
                    if source > target:
                        shapes |= conv_and_norm(at, HRNET_WIDTHS[source], HRNET_WIDTHS[target], 1)
                    for step in range(target - source):
                        out = HRNET_WIDTHS[target] if step == target - source - 1 else HRNET_WIDTHS[source]
                        shapes |= conv_and_norm(f"{at}.{step}", HRNET_WIDTHS[source], out, 3)
    return shapes


def hrnet_pooling() -> Shapes:
    """Multi-RoI's three rows of strided convolutions."""
    shapes: Shapes = {}
    for row, count in ((1, 3), (2, 2), (3, 1)):
        width = HRNET_WIDTHS[row - 1]
        for step in range(count):
            shapes |= {f"downsample_stage_{row}.{3 * step}.weight": (width, width, 3, 3)}
            shapes |= norm(f"downsample_stage_{row}.{3 * step + 1}", width)
    return shapes


def hrnet_classifier() -> Shapes:
    """What ImageNet's HRNet has above its trunk, without the last layer."""
    shapes: Shapes = {}
    for scale, (channels, width) in enumerate(zip(HRNET_WIDTHS, (32, 64, 128, 256), strict=True)):
        shapes |= bottleneck(f"incre_modules.{scale}.0", channels, width, shortcut=True)
    for scale, channels in enumerate((128, 256, 512)):
        shapes |= conv_and_norm(f"downsamp_modules.{scale}", channels, 2 * channels, 3, bias=True)
    return shapes | conv_and_norm("final_layer", 1024, 2048, 1, bias=True)


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (outputs, inputs)}
    return {**shapes, f"{name}.bias": (outputs,)} if bias else shapes


def regressor(inputs: int, first: int) -> Shapes:
    shapes = linear("fc1", inputs + 144 + 10 + 3, first) | linear("fc2", first, 1024)
    shapes |= linear("decpose", 1024, 144) | linear("decshape", 1024, 10) | linear("deccam", 1024, 3)
    return shapes | {"init_pose": (1, 144), "init_shape": (1, 10), "init_cam": (1, 3)}


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def multi_roi(encoder: str, views: int = 5, frequencies: int = 32) -> Shapes:
    features = {"resnet50": 2048, "hrnet_w48": 720}[encoder]
    if encoder == "resnet50":
        shapes = resnet50()
    else:
        shapes = prefixed("backbone.", hrnet_trunk() | hrnet_pooling() | {"final_layer.weight": (24, 48, 1, 1), "final_layer.bias": (24,)})
    shapes |= linear("fuse_fc", features + 3 + 6 * frequencies, 256)
    shapes |= linear("attention.0", 256 * views, 256) | linear("attention.2", 256, 256) | linear("attention.4", 256, views)
    shapes |= regressor(features + 3 * views, 2048)
    shapes |= linear("proj_head.0", features, features) | norm("proj_head.1", features)
    shapes |= linear("proj_head.3", features, features, bias=False) | norm("proj_head.4", features)
    return shapes | {"pos_enc._freqs": (1, 2 * frequencies, 1), "pos_enc._phases": (1, 2 * frequencies, 1)}


def cliff(encoder: str) -> Shapes:
    trunk = resnet50() if encoder == "resnet50" else hrnet_trunk() | hrnet_classifier()
    return prefixed("encoder.", trunk) | regressor(2048 + 3, 1024)


def vit(dim: int, depth: int) -> Shapes:
    """ViTPose's, without prefix."""
    shapes: Shapes = {"pos_embed": (1, 193, dim), "patch_embed.proj.weight": (dim, 3, 16, 16), "patch_embed.proj.bias": (dim,)}
    layer_norm = lambda name: {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
    for block in (f"blocks.{i}" for i in range(depth)):
        shapes |= layer_norm(f"{block}.norm1") | layer_norm(f"{block}.norm2")
        shapes |= linear(f"{block}.attn.qkv", dim, 3 * dim) | linear(f"{block}.attn.proj", dim, dim)
        shapes |= linear(f"{block}.mlp.fc1", dim, 4 * dim) | linear(f"{block}.mlp.fc2", 4 * dim, dim)
    return shapes | layer_norm("last_norm")


def random_weights(shapes: Shapes, seed: int = 0) -> Weights:
    """Values at which activations neither die nor explode, and no two of which are alike."""
    g = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, shape in shapes.items():
        last = name.rpartition(".")[2]
        if last == "num_batches_tracked":
            weights[name] = torch.tensor(1000)
        elif last == "_freqs":
            weights[name] = (math.pi * 2.0 ** torch.arange(shape[1] // 2)).repeat_interleave(2).reshape(shape)
        elif last == "_phases":
            weights[name] = torch.tensor([0, math.pi / 2]).repeat(shape[1] // 2).reshape(shape)
        elif last == "running_var":
            weights[name] = torch.rand(shape, generator=g) + 0.5
        elif last in ("running_mean", "bias"):
            weights[name] = 0.05 * torch.randn(shape, generator=g)
        elif last.startswith("init_"):
            weights[name] = torch.randn(shape, generator=g)
        elif len(shape) == 1:
            weights[name] = 0.4 * torch.rand(shape, generator=g) + 0.4
        else:
            gain = 1 if len(shape) == 2 else math.sqrt(2)
            weights[name] = gain * torch.randn(shape, generator=g) / math.sqrt(math.prod(shape[1:]))
    return weights


# ---- what is computed with them -------------------------------------------------------------------------------------------


def batch_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    mean, var, gain, shift = (w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / torch.sqrt(var + 1e-5) * gain + shift


def conv(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv2d(x, kernel, w.get(f"{name}.bias"), stride, padding=kernel.shape[-1] // 2)


def conv_norm(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    return batch_norm(w, f"{name}.1", conv(w, f"{name}.0", x, stride))


def run_bottleneck(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    y = torch.relu(batch_norm(w, f"{name}.bn1", conv(w, f"{name}.conv1", x)))
    y = torch.relu(batch_norm(w, f"{name}.bn2", conv(w, f"{name}.conv2", y, stride)))
    y = batch_norm(w, f"{name}.bn3", conv(w, f"{name}.conv3", y))
    shortcut = conv_norm(w, f"{name}.downsample", x, stride) if f"{name}.downsample.0.weight" in w else x
    return torch.relu(y + shortcut)


def imagenet(crops: Tensor) -> Tensor:
    """(B, 3, h, w) uint8 RGB."""
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (crops / 255 - mean[:, None, None]) / sd[:, None, None]


def run_resnet50(w: Weights, crops: Tensor) -> Tensor:
    """(B, 2048)."""
    x = torch.relu(batch_norm(w, "bn1", conv(w, "conv1", imagenet(crops), 2)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            x = run_bottleneck(w, f"layer{stage}.{block}", x, 2 if block == 0 and stage > 1 else 1)
    return x.mean((2, 3))


def run_hrnet_trunk(w: Weights, crops: Tensor) -> list[Tensor]:
    x = torch.relu(batch_norm(w, "bn1", conv(w, "conv1", imagenet(crops), 2)))
    x = torch.relu(batch_norm(w, "bn2", conv(w, "conv2", x, 2)))
    for block in range(4):
        x = run_bottleneck(w, f"layer1.{block}", x)
    maps = [torch.relu(conv_norm(w, "transition1.0", x)), torch.relu(conv_norm(w, "transition1.1.0", x, 2))]
    for stage, modules in HRNET_MODULES.items():
        if stage > 2:
            maps.append(torch.relu(conv_norm(w, f"transition{stage - 1}.{stage - 1}.0", maps[-1], 2)))
        for module in range(modules):
            maps = run_exchange(w, f"stage{stage}.{module}", maps)
    return maps


def run_exchange(w: Weights, name: str, maps: list[Tensor]) -> list[Tensor]:
    filtered = []
    for branch, x in enumerate(maps):
        for block in range(4):
            at = f"{name}.branches.{branch}.{block}"
            y = torch.relu(batch_norm(w, f"{at}.bn1", conv(w, f"{at}.conv1", x)))
            x = torch.relu(batch_norm(w, f"{at}.bn2", conv(w, f"{at}.conv2", y)) + x)
        filtered.append(x)
    sums = []
    for target in range(len(maps)):
        total = torch.zeros_like(filtered[target])
        for source, x in enumerate(filtered):
            at = f"{name}.fuse_layers.{target}.{source}"
            if source > target:
                x = conv_norm(w, at, x)
                x = x.repeat_interleave(2 ** (source - target), 2).repeat_interleave(2 ** (source - target), 3)
            for step in range(target - source):
                x = conv_norm(w, f"{at}.{step}", x, 2)
                x = x if step == target - source - 1 else torch.relu(x)
            total = total + x
        sums.append(torch.relu(total))
    return sums


def run_hrnet_w48(w: Weights, crops: Tensor) -> Tensor:
    """(B, 720)."""
    maps = run_hrnet_trunk(w, crops)
    for row, count in ((1, 3), (2, 2), (3, 1)):
        for step in range(count):
            at = f"downsample_stage_{row}"
            x = conv(w, f"{at}.{3 * step}", maps[row - 1], 2)
            maps[row - 1] = torch.relu(batch_norm(w, f"{at}.{3 * step + 1}", x))
    return torch.cat(maps, 1).mean((2, 3))


def run_hrnet_classifier(w: Weights, crops: Tensor) -> Tensor:
    """(B, 2048)."""
    maps = run_hrnet_trunk(w, crops)
    x = run_bottleneck(w, "incre_modules.0.0", maps[0])
    for scale in range(3):
        reduced = torch.relu(conv_norm(w, f"downsamp_modules.{scale}", x, 2))
        x = run_bottleneck(w, f"incre_modules.{scale + 1}.0", maps[scale + 1]) + reduced
    return torch.relu(conv_norm(w, "final_layer", x)).mean((2, 3))


def run_vit(w: Weights, crops: Tensor, heads: int) -> Tensor:
    """(B, dim): patch by patch, token by token, head by head."""
    pictures = F.pad(imagenet(crops), (2, 2, 2, 2))
    kernel = w["patch_embed.proj.weight"]
    dim = len(kernel)
    features = []
    for picture in pictures:
        patches = [picture[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] for row in range(16) for column in range(12)]
        x = torch.stack([kernel.flatten(1) @ patch.flatten() + w["patch_embed.proj.bias"] for patch in patches])
        x = x + w["pos_embed"][0, 1:] + w["pos_embed"][0, 0]
        for block in (f"blocks.{i}" for i in range(sum(name.endswith(".norm1.weight") for name in w))):
            q, k, v = affine(w, f"{block}.attn.qkv", layer_norm(w, f"{block}.norm1", x)).split(dim, -1)
            size = dim // heads
            seen = []
            for head in range(heads):
                mine = slice(head * size, (head + 1) * size)
                scores = torch.exp(q[:, mine] @ k[:, mine].T / math.sqrt(size))
                seen.append(scores / scores.sum(1, keepdim=True) @ v[:, mine])
            x = x + affine(w, f"{block}.attn.proj", torch.cat(seen, 1))
            hidden = affine(w, f"{block}.mlp.fc1", layer_norm(w, f"{block}.norm2", x))
            x = x + affine(w, f"{block}.mlp.fc2", hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2)
        features.append(layer_norm(w, "last_norm", x).mean(0))
    return torch.stack(features)


def affine(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]


def below(prefix: str, weights: Weights) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def dense(w: Weights, name: str, x: Tensor) -> Tensor:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def encoded(difference: Tensor, frequencies: int) -> Tensor:
    """(3,) -> the three numbers, then for each frequency three sines and three sines shifted by a quarter turn."""
    out = list(difference)
    for k in range(frequencies):
        for shift in (0.0, math.pi / 2):
            out += [torch.sin(difference[axis] * torch.tensor(2.0**k * math.pi) + torch.tensor(shift)) for axis in range(3)]
    return torch.stack(out)


def fusion_weights(w: Weights, features: Tensor, infos: Tensor, frequencies: int) -> Tensor:
    """One person's (V, C) and (V, 3) -> (V, V)."""
    count = len(features)
    rows = []
    for i in range(count):
        tokens = [dense(w, "fuse_fc", torch.cat([features[j], encoded(infos[i] - infos[j], frequencies)])) for j in range(count)]
        x = torch.cat(tokens)
        for layer in (0, 2, 4):
            x = torch.tanh(dense(w, f"attention.{layer}", x))
        rows.append(x.exp() / x.exp().sum())
    return torch.stack(rows)


def regress(w: Weights, feature: Tensor, infos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One view: its feature (C,) and the box information it reads (k,) -> rotations (24, 3, 3), betas (10,), camera (3,)."""
    pose, betas, cam = w["init_pose"][0], w["init_shape"][0], w["init_cam"][0]
    for _ in range(3):
        x = dense(w, "fc2", dense(w, "fc1", torch.cat([feature, infos, pose, betas, cam])))
        pose, betas, cam = pose + dense(w, "decpose", x), betas + dense(w, "decshape", x), cam + dense(w, "deccam", x)
    return torch.stack([gram_schmidt(joint) for joint in pose.reshape(24, 3, 2)]), betas, cam


def gram_schmidt(columns: Tensor) -> Tensor:
    """(3, 2) -> (3, 3)."""
    a, b = columns[:, 0], columns[:, 1]
    a = a / a.norm()
    b = b - (a @ b) * a
    b = b / b.norm()
    return torch.stack([a, b, torch.linalg.cross(a, b)], 1)


def box_information(views: Tensor, focal: float) -> Tensor:
    """(V, 3) centre from the principal point and side, px."""
    return torch.stack([torch.stack([2.8 * x / focal, 2.8 * y / focal, (b - 0.24 * focal) / (0.06 * focal)]) for x, y, b in views])
