"""Compare the building of crops and batches with a loop of cv2.warpAffine and one network call per person.

    python benchmarks/crops.py [--people 8] [--views 5] [--size 1920x1080]

The loop is typical for single-picture code: one cv2.warpAffine (bilinear, without an anti-aliasing filter) from the frame per crop. Both
sides get the same boxes and produce crops of the same size as uint8, channels first. This package filters before it reduces, which the
loop does not: a person larger than the crop costs more and looks better. The frame is that of the drawn clip.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from measuring import Ratio, Result, arguments, drawn, in_turns, middle, settings_of

from mchmr_stream.cropping.base_box import base_boxes
from mchmr_stream.datatypes import CropBatch
from mchmr_stream.geometry.crops import image_from_crop_affine
from mchmr_stream.network.weights import pick_device
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.threads import torch_threads
from mchmr_stream.speed.recorded_calls import First, record
from mchmr_stream.speed.stages import people_together

_FRAMES, _SECONDS = 12, 1.5


def calls_per_s(call: Callable[[], object]) -> Callable[[], float]:
    """Calls per second, over a second and a half."""

    def rate() -> float:
        call()
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < _SECONDS:
            call()
            done += 1
        return done / (time.perf_counter() - start)

    return rate


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--size", default="1920x1080")
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    settings = settings_of(args.overrides, f"crops.views={args.views}")
    pipeline = Pipeline(settings)
    with drawn(args.people, frames=_FRAMES, size_wh=(width, height)) as clip:
        source, intrinsics = open_input(clip, settings)
        recording = record(pipeline, First(source, _FRAMES), intrinsics)
        source.close()
    frame, tracks, intrinsics = recording.cropped[-1]
    cropper, estimator = pipeline.components.cropper, pipeline.components.estimator
    device = pick_device(settings.runtime.device)

    def ours() -> torch.Tensor:
        crops = cropper.crop(frame, tracks, intrinsics).crops
        if device.type == "cuda":
            torch.cuda.synchronize()
        return crops

    def loop() -> torch.Tensor:
        base_px, roll_rad = base_boxes(tracks, intrinsics, cropper.layout, cropper.upright)
        affine = image_from_crop_affine(cropper.layout.views_px(base_px), roll_rad, intrinsics, cropper.layout.crop_hw)
        crop_wh = cropper.layout.crop_hw[::-1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crops = [[cv2.warpAffine(frame.rgb, one, crop_wh, flags=flags).transpose(2, 0, 1) for one in person] for person in affine]
        return torch.from_numpy(np.array(crops)).to(device)

    together = people_together(recording.batches, len(tracks))
    assert together is not None
    alone = [one_person(together, person) for person in range(len(tracks))]
    threads = torch.get_num_threads()
    cv2.setNumThreads(threads)
    sides = {
        "crops, ours": calls_per_s(ours),
        "crops, cv2 loop": calls_per_s(loop),
        "network, all people together": calls_per_s(lambda: estimator.estimate(together)),
        "network, one person at a time": calls_per_s(lambda: [estimator.estimate(batch) for batch in alone]),
        "both, ours": calls_per_s(lambda: (ours(), estimator.estimate(together))),
        "both, their way": calls_per_s(lambda: (loop(), [estimator.estimate(batch) for batch in alone])),
    }
    with torch_threads(threads):
        rounds = in_turns(sides, args.repeats)
    result = Result(
        "crops",
        f"How fast are the crops of {args.people} people, {args.views} views each, beside a cv2.warpAffine loop and one person at a time?",
        ("", "frames/s", "crops/s", "ratio to the loop"),
        f"{args.size}, {len(tracks)} people found, {threads} threads on both sides, device {device}.",
    )
    pairs = [
        ("crops, ours", "crops, cv2 loop"),
        ("network, all people together", "network, one person at a time"),
        ("both, ours", "both, their way"),
    ]
    for side, other in pairs:
        ratio = Ratio.of(rounds, side, other)
        result.ratios[f"{side} / {other}"] = ratio
        for name, said in ((side, str(ratio)), (other, "1")):
            rate = middle(rounds, name)
            result.rows.append([name, f"{rate:.1f}", f"{rate * len(tracks) * args.views:.0f}", said])
    result.finish(args)


def one_person(batch: CropBatch, person: int) -> CropBatch:
    rows = slice(person, person + 1)
    return CropBatch(
        batch.crops[rows], batch.views_px[rows], batch.base_px[rows], batch.keypoints_px[rows], batch.focal_px[rows], batch.roll_rad[rows]
    )


if __name__ == "__main__":
    main()
