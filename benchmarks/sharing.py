"""Test whether the encoder's early layers can run once for all views of a person, with the views cut out of their map.

    python benchmarks/sharing.py REAL [--shards DIR] [--views 5] [--scale 1.25] [--stages 64 32 16] [--fewer 3 2] [--repeats 3]

One picture holds all views of a person, at the resolution of a view of `--scale`. The encoder's layers up to a map of the given size run
on the picture; each view's part of that map is sampled from it (shift and scale, Keys' cubic kernel), and the remaining layers run once
per view. Nothing is retrained. References: each view from its own pixels, and fewer views. Speed: crops and encoder of one person, one
thread. `REAL`: a folder as for `mchmr evaluate real3d`, camera known. `--shards`: rendered people of the test split by `mchmr synth`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Ratio, Result, arguments, in_turns, middle, need, settings_of
from numpy.typing import NDArray
from torch import Tensor, nn

from mchmr_stream.cropping.crop_layouts import Layout, layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.datatypes import CropBatch, Frame, Tracks
from mchmr_stream.detection.movenet_detector import MoveNetDetector
from mchmr_stream.estimators.local import LocalEstimator
from mchmr_stream.evaluation import synthetic
from mchmr_stream.evaluation.real3d import errors_row
from mchmr_stream.evaluation.real_predictions import known_camera, largest_person
from mchmr_stream.evaluation.real_views import RealView, load_views
from mchmr_stream.evaluation.synthetic_people import labelled_people
from mchmr_stream.evaluation.synthetic_predictions import KNOWN, predict
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
from mchmr_stream.keypoints.thunder_keypoints import ThunderPoints
from mchmr_stream.network.encoders import optimise_for_inference
from mchmr_stream.network.encoders.blazepose import INPUT_PX, BlazePose, Trunk
from mchmr_stream.network.encoders.encoder import CropFeatures, Encoder
from mchmr_stream.network.weights import LoadedNetwork, load_network
from mchmr_stream.pipeline.factory import build_smoother, open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.pipeline.scene_stages import smoothed
from mchmr_stream.runtime.concurrency import Stopwatch
from mchmr_stream.runtime.threads import torch_threads
from mchmr_stream.speed.recorded_calls import First, record
from mchmr_stream.synthesis.shards import read_shards
from mchmr_stream.training.observations.observed_people import Observer

CPU = torch.device("cpu")
STAGES = (64, 32, 16)
_SECONDS, _FRAMES = 1.0, 12
Encode = Callable[[Tensor], CropFeatures]


class SharedPicture:
    """The rectangle around all views of a layout; it is aligned to the cells of a view of `scale` around the middle."""

    def __init__(self, chosen: Layout, scale: float, map_px: int) -> None:
        views, self._cell_px, self._map_px = chosen.views.astype(np.float64), INPUT_PX // map_px, map_px
        cell = scale / map_px  # base sides
        half = views[:, 2:] / 2
        cells_before = np.ceil(((views[:, :2] - half).min(0) + scale / 2) / -cell - 1e-6)
        cells_behind = np.ceil(((views[:, :2] + half).max(0) + scale / 2) / cell - 1e-6)
        self._start, size = -scale / 2 - cells_before * cell, cells_before + cells_behind
        self._views, self._cell, self._cells = views, cell, size.astype(int)
        hw = int(self._cells[1]) * self._cell_px, int(self._cells[0]) * self._cell_px
        # As a layout of one view, whose side is its height.
        whole = np.array([[*(self._start + size * cell / 2), size[1] * cell]], np.float32)
        self.layout = replace(chosen, name="shared", views=whole, crop_hw=hw)

    def cells(self, axis: int) -> NDArray[np.float64]:
        """Compute the positions of each view's own map cells in the picture's map, (V, map_px), x (axis 0) or y, in cells."""
        # A cell's middle is its first pixel's: convolutions are padded equally on both sides.
        pixel = np.arange(self._map_px) * self._cell_px + 0.5
        base = self._views[:, axis, None] + (pixel / INPUT_PX - 0.5) * self._views[:, 2:]
        return (base - self._start[axis]) / self._cell - 0.5 / self._cell_px

    def weights(self, axis: int) -> Tensor:
        """Compute weights (V, map_px, cells): each row samples one cell of a view from the picture's map.

        The kernel is Keys' cubic one; the map's edges are replicated.
        """
        cells, beyond = int(self._cells[axis]), 2
        distance = abs(self.cells(axis)[..., None] - np.arange(-beyond, cells + beyond))
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        padded = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
        inside = padded[..., beyond:-beyond].copy()
        inside[..., 0] += padded[..., :beyond].sum(-1)
        inside[..., -1] += padded[..., -beyond:].sum(-1)
        return torch.from_numpy(inside).float()


class SharedTrunk(nn.Module):
    """Replacement of a `Trunk`: pictures in, maps of all their views out."""

    def __init__(self, trunk: Trunk, picture: SharedPicture, map_px: int) -> None:
        super().__init__()
        stages = [trunk.stage64, trunk.stage32, trunk.stage16, trunk.stage8]
        once = 1 + STAGES.index(map_px)
        self.once = nn.Sequential(trunk.stem, *stages[:once])
        self.each = nn.Sequential(*stages[once:], trunk.neck)
        columns, rows = picture.weights(0), picture.weights(1)
        self.views, self.map_px = len(rows), map_px
        self.register_buffer("rows", rows.flatten(0, 1))
        self.register_buffer("columns", columns[:, None].clone())

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        whole = self.once(pictures).permute(0, 2, 3, 1)
        b, h, w, channels = whole.shape
        strips = (self.rows @ whole.reshape(b, h, w * channels)).view(b, self.views, self.map_px, w, channels)
        own = (self.columns @ strips).flatten(0, 1).permute(0, 3, 1, 2)
        return own, own, own, self.each(own)


class SharedViews(Encoder):
    """Encoder of (B, 3, height, width) pictures that returns `CropFeatures` of (B, V) views."""

    def __init__(self, encoder: BlazePose, picture: SharedPicture, map_px: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.views, self.input_hw = picture.cells(0).shape[0], picture.layout.crop_hw
        self.encoder.trunk = SharedTrunk(self.encoder.trunk, picture, map_px)  # type: ignore[assignment] # answers like a Trunk
        self.reduced_parts = tuple(f"encoder.{part}" for part in encoder.reduced_parts)

    def forward(self, crops: Tensor) -> CropFeatures:
        self.encoder.reduced_dtype = self.reduced_dtype
        return CropFeatures(*(seen.unflatten(0, (-1, self.views)) for seen in self.encoder(crops)))


@dataclass(frozen=True, eq=False)
class Way:
    """A way to encode V crops of each person of a frame."""

    layout: Layout
    cropper: Cropper
    """of the views, or of the shared picture"""
    encode: Encode
    """crops or pictures as the cropper cuts them (B, 3, h, w), 0 to 1 -> rows of n * V"""

    def look(self, frame: Frame, tracks: Tracks, intrinsics: Intrinsics) -> CropFeatures:
        return self.encode(self.cropper.crop(frame, tracks, intrinsics).crops.flatten(0, 1).float() / 255)


def plain(encoder: BlazePose, chosen: Layout) -> Way:
    return Way(chosen, Cropper(chosen, device=CPU), optimise_for_inference(encoder, CPU, crops_at_once=chosen.count))


def shared(encoder: BlazePose, chosen: Layout, scale: float, map_px: int) -> Way:
    picture = SharedPicture(chosen, scale, map_px)
    optimised = optimise_for_inference(SharedViews(encoder, picture, map_px), CPU, crops_at_once=1)
    encode = lambda pictures: CropFeatures(*(seen.flatten(0, 1) for seen in optimised(pictures)))
    return Way(chosen, Cropper(picture.layout, device=CPU), encode)


class AsViews:
    """A `Cropper` for the pipeline: a shared picture is repeated V times in the batch, without copies."""

    def __init__(self, way: Way) -> None:
        self.layout, self._cropper = way.layout, way.cropper

    def crop(self, frame: Frame, tracks: Tracks, intrinsics: Intrinsics) -> CropBatch:
        batch = self._cropper.crop(frame, tracks, intrinsics)
        return replace(batch, crops=batch.crops.expand(-1, self.layout.count, -1, -1, -1), views_px=self.layout.views_px(batch.base_px))


def encode_views(way: Way) -> Encode:
    """Encode the flattened output of `AsViews`."""
    each = way.layout.count // way.cropper.layout.count
    return lambda crops: way.encode(crops[::each])


def real_errors(way: Way, views: list[RealView], overrides: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Compute errors per frame, and after two-sided smoothing."""
    settings = settings_of(overrides, f"crops.views={way.layout.count}", "runtime.device=cpu")
    estimator = LocalEstimator(settings.network.weights, CPU, views=way.layout.count)
    estimator._encoder = encode_views(way)
    alone_settings = settings_of(overrides, f"crops.views={way.layout.count}", "runtime.device=cpu", "smoother.kind=none")
    pipeline = Pipeline(alone_settings).with_components(cropper=AsViews(way), estimator=estimator)
    alone, smooth = [], []
    for view in views:
        with known_camera(view) as camera:
            source, intrinsics = open_input(view.video, settings_of([camera]))
        scenes = list(without_pictures(pipeline, source, intrinsics))
        source.close()
        size_wh = source.info.width, source.info.height
        frames = smoothed(
            ((scene.frame, scene.bodies) for scene in scenes), build_smoother(settings, size_wh, pipeline.components.body), Stopwatch()
        )
        alone.append(largest_person(view, "", scenes, settings.body.model, undistorted=True))
        again = (pipeline.scene(frame, bodies, intrinsics) for frame, bodies in frames)
        smooth.append(largest_person(view, "", again, settings.body.model, undistorted=True))
    pipeline.close()
    return errors_row(alone), errors_row(smooth)


def without_pictures(pipeline: Pipeline, source: Any, intrinsics: Intrinsics) -> Any:
    """Scenes without their frame's pixels, to save memory."""
    for scene in pipeline.scenes(source, intrinsics):
        yield replace(scene, frame=replace(scene.frame, rgb=np.zeros((1, 1, 3), np.uint8)))


def rendered_errors(way: Way, shards: Path, network: LoadedNetwork) -> dict[str, float]:
    """Compute errors of the people that the detector found, with the known focal length."""
    keypoints = CropKeypoints(ThunderPoints(CPU))
    observer = Observer(MoveNetDetector(device=CPU), AsViews(way), encode_views(way), 0, keypoints)  # type: ignore[arg-type]
    people = observer.observe(read_shards(shards))
    errors = synthetic.evaluate(predict(people, network, labels=list(labelled_people(shards)), data=shards.name)).tables["errors"]
    return {name: float(value) for name, value in errors[f"found, {KNOWN}"].items() if value is not None}


def per_s(call: Callable[[], object]) -> Callable[[], float]:
    """Calls per second."""

    def rate() -> float:
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < _SECONDS:
            call()
            done += 1
        return done / (time.perf_counter() - start)

    return rate


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("real", type=Path, help="folder of real views with ground truth")
    parser.add_argument("--shards", type=Path, help="rendered people of the test split")
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.25, help="of the view as finely as which the shared picture is cut")
    parser.add_argument("--stages", type=int, nargs="+", choices=STAGES, default=list(STAGES), help="maps out of which views are cut")
    parser.add_argument("--fewer", type=int, nargs="*", default=[3, 2], help="numbers of views to compare with")
    args = parser.parse_args()
    views = load_views(need(args.real, "a folder of real views as for `mchmr evaluate real3d`"))
    settings = settings_of(args.overrides, f"crops.views={args.views}", "runtime.device=cpu")
    network = load_network(settings.network.weights)
    encoder = network.net.encoder
    if not isinstance(encoder, BlazePose) or encoder.pyramid is not None:
        raise SystemExit(f"estimators/shared.py: {network.name} sees with {encoder.name}, expected weights with BlazePose lite or full")
    all_views, reference = layout("wide", args.views), f"{args.views} views, each from its pixels"

    pipeline = Pipeline(settings_of([], "tracker.max_people=1", "runtime.device=cpu"))
    source, intrinsics = open_input(views[0].video, settings)
    frame, tracks, intrinsics = record(pipeline, First(source, _FRAMES), intrinsics).cropped[-1]
    source.close()
    pipeline.close()
    with torch_threads(1):  # networks are prepared for the current number of threads
        ways = {reference: plain(encoder, all_views)}
        ways |= {f"{args.views} views out of the map at {px}": shared(encoder, all_views, args.scale, px) for px in args.stages}
        ways |= {f"{count} views, each from its pixels": plain(encoder, layout("wide", count)) for count in args.fewer}
        sides = {name: partial(way.look, frame, tracks, intrinsics) for name, way in ways.items()}
        for side in sides.values():
            side()
        rounds = in_turns({name: per_s(side) for name, side in sides.items()}, args.repeats)

    result = Result(
        "sharing",
        "Early layers of the encoder once for all views of a person: how fast, and how right?",
        ("", "crops and encoder, ms", "ratio", "real MPJPE / PA", "real, smoothed", *(["rendered MPJPE / PA"] if args.shards else [])),
        f"One person, one thread; a shared picture is as fine as a view of scale {args.scale}. Errors in mm: {args.real.name}, camera "
        "known, each frame by itself and smoothed" + ("; rendered people, focal length known." if args.shards else "."),
    )
    for name, way in ways.items():
        ratio = Ratio.of(rounds, name, reference)
        if name != reference:
            result.ratios[f"{name} / {reference}"] = ratio
        errors = [*real_errors(way, views, args.overrides), *([rendered_errors(way, args.shards, network)] if args.shards else [])]
        result.rows.append(
            [name, f"{1000 / middle(rounds, name):.1f}", str(ratio), *(f"{e['MPJPE mm']:.1f} / {e['PA-MPJPE mm']:.1f}" for e in errors)]
        )
        print(result.rows[-1], flush=True)
    result.finish(args)


if __name__ == "__main__":
    main()
