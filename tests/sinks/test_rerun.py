"""--rerun: recordings read back with Rerun's own reader and judged by its own tool."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
from components import import_or_skip
from people import FPS, people_pictures
from PIL import Image

import mchmr_stream
from mchmr_stream.cli import main
from mchmr_stream.cli.print_config import settings_yaml
from mchmr_stream.config import Settings, settings_from
from mchmr_stream.errors import UsageError
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.sinks.rerun_live import RerunLiveSink

rerun = import_or_skip("rerun")
FRAMES = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = people_pictures(FRAMES, [((-0.6, 0.3, 4.0), (0.0, 0.3, 4.0)), ((0.9, 0.3, 4.5), (0.9, 0.3, 4.5))])
    return media.write_video(tmp_path_factory.mktemp("clip") / "people.mp4", pictures, fps=FPS)


@pytest.fixture(scope="module")
def pipeline(quick_pipeline: Pipeline) -> Pipeline:
    """Every frame on its own and one pass of the fit, so that the numbers in the .npz are those that every sink got."""
    plain = {"smoother": {"kind": "none"}, "fit": {"passes": 1}, "output": {"overlay": False, "rerun": True}}
    return Pipeline(settings_from({**quick_pipeline.settings.model_dump(), **plain}), quick_pipeline.components)


def read(path: Path) -> dict[str, list[Any]]:
    """Chunks of every entity, after Rerun's own verdict on the file."""
    verdict = subprocess.run([sys.executable, "-m", "rerun", "rrd", "verify", str(path)], capture_output=True, text=True, check=False)
    assert verdict.returncode == 0, verdict.stderr
    from rerun.chunk import RrdReader

    entities: dict[str, list[Any]] = {}
    for chunk in RrdReader(path).stream():
        entities.setdefault(chunk.entity_path, []).append(chunk)
    return entities


def column(chunks: list[Any], name: str) -> dict[int, np.ndarray]:
    """A component's values, or another timeline's (nanoseconds), by the number of the frame."""
    values = {}
    for chunk in chunks:
        batch = chunk.to_record_batch()
        if name in batch.schema.names and "frame" in batch.schema.names:
            found = batch[name] if ":" in name else batch[name].cast("int64")
            values |= {
                at: np.array(value) for at, value in zip(batch["frame"].to_pylist(), found.to_pylist(), strict=True) if value is not None
            }
    return values


def jpeg(blob: np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(np.asarray(blob, np.uint8).tobytes())).convert("RGB"))


def test_a_video_as_a_recording_that_reruns_own_reader_reads(pipeline: Pipeline, clip: Path, tmp_path: Path):
    process_video(clip, tmp_path, pipeline.settings, pipeline=pipeline)
    entities = read(tmp_path / "people.rrd")
    motion = mchmr_stream.load(tmp_path / "people.npz")
    assert list(motion.tracks) == [1, 2]
    for identity, track in motion.tracks.items():
        joints_m = column(entities[f"/people-mp4/people/{identity}/joints"], "Points3D:positions")
        assert list(joints_m) == track.frame.tolist()
        np.testing.assert_allclose(list(joints_m.values()), track.joints_m, atol=1e-6)
        joints_px = column(entities[f"/people-mp4/camera/skeletons/{identity}"], "Points2D:positions")
        np.testing.assert_allclose(list(joints_px.values()), track.joints_px, atol=1e-4)
        times = column(entities[f"/people-mp4/people/{identity}/joints"], "time")
        np.testing.assert_allclose([1e-9 * at for at in times.values()], track.time_s, atol=1e-6)
        mesh = entities[f"/people-mp4/people/{identity}/mesh"]
        vertices_m, normals = column(mesh, "Mesh3D:vertex_positions"), column(mesh, "Mesh3D:vertex_normals")
        assert all(value.shape == (6890, 3) for value in vertices_m.values())
        np.testing.assert_allclose(np.linalg.norm(list(normals.values()), axis=-1), 1, atol=1e-4)
        # the body is around its joints, and its normals point away from its middle
        for frame in track.frame.tolist():
            centre = vertices_m[frame].mean(0)
            assert np.abs(centre - joints_m[frame].mean(0)).max() < 0.25
            assert (normals[frame] * (vertices_m[frame] - centre)).sum(-1).mean() > 0
        (static,) = [chunk for chunk in mesh if chunk.is_static]
        assert len(static.to_record_batch()["Mesh3D:triangle_indices"].to_pylist()[0]) == 13776
    pictures = column(entities["/people-mp4/camera/picture"], "EncodedImage:blob")
    assert list(pictures) == list(range(FRAMES))
    assert [media.read_counter(jpeg(blob[0])[:16]) for blob in pictures.values()] == list(range(FRAMES))
    boxes = column(entities["/people-mp4/camera/boxes"], "Boxes2D:half_sizes")
    assert len(boxes[FRAMES - 1]) == 2
    (pinhole,) = [chunk.to_record_batch() for chunk in entities["/people-mp4/camera"]]
    np.testing.assert_allclose(np.reshape(pinhole["Pinhole:image_from_camera"].to_pylist()[0], (3, 3)).T, motion.K, rtol=1e-6)
    (context,) = [chunk.to_record_batch() for chunk in entities["/people-mp4"]]
    assert "ViewCoordinates:xyz" in context.schema.names
    milliseconds = column(entities["/people-mp4/timings/network"], "Scalars:scalars")
    assert all(value[0] > 0 for value in milliseconds.values())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_stopped_run_goes_on_in_the_same_recording(pipeline: Pipeline, tmp_path: Path):
    frames, place = 36, (-0.2, 0.3, 4.0)
    clip = media.write_video(tmp_path / "people.mp4", people_pictures(frames, [(place, place)]), fps=FPS)
    stop = threading.Event()
    process_video(
        clip, tmp_path / "out", pipeline.settings, pipeline=pipeline, stop=stop, progress=lambda done, _: stop.set() if done == 2 else None
    )
    first = list(column(read(tmp_path / "out" / "people.rrd")["/people-mp4/camera/picture"], "EncodedImage:blob"))
    assert 2 <= len(first) < frames
    process_video(clip, tmp_path / "out", pipeline.settings, pipeline=pipeline, resume=True)
    entities = read(tmp_path / "out" / "people.rrd")
    assert sorted(column(entities["/people-mp4/camera/picture"], "EncodedImage:blob")) == list(range(frames))
    motion = mchmr_stream.load(tmp_path / "out" / "people.npz")
    for identity, track in motion.tracks.items():
        joints_m = column(entities[f"/people-mp4/people/{identity}/joints"], "Points3D:positions")
        np.testing.assert_allclose([joints_m[frame] for frame in track.frame.tolist()], track.joints_m, atol=1e-6)


def test_people_who_leave_are_cleared_and_live_results_lie_on_the_clock(quick_settings: Settings, clip: Path, tmp_path: Path):
    settings = tmp_path / "quick.yaml"
    settings.write_text(settings_yaml(settings_from({**quick_settings.model_dump(), "tracker": {"max_lost_s": 0.1}})))
    nobody = media.write_video(tmp_path / "leaves.mp4", leaving(), fps=FPS)
    where = tmp_path / "live.rrd"
    assert (
        main(["live", str(nobody), "--config", str(settings), "--no-page", "--rerun", str(where), "--json", str(tmp_path / "out.jsonl")])
        == 0
    )
    entities = read(where)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    joints_m = column(entities["/leaves-mp4/people/1/joints"], "Points3D:positions")
    # On a busy machine the recording leaves some results out, and says so.
    with_somebody = [line for line in lines if line["people"] and line["frame"] in joints_m]
    assert with_somebody
    for line in with_somebody:
        np.testing.assert_allclose(joints_m[line["frame"]], line["people"][0]["joints_m"], atol=1e-4)
    cleared = column(entities["/leaves-mp4/people/1"], "Clear:is_recursive")
    assert min(cleared) > max(joints_m)
    ages = column(entities["/leaves-mp4/timings/age"], "Scalars:scalars")
    lines = [line for line in lines if line["frame"] in ages]
    assert lines
    np.testing.assert_allclose([ages[line["frame"]][0] for line in lines], [1000 * line["age_s"] for line in lines], atol=0.1)
    clock = column(entities["/leaves-mp4/timings/age"], "clock")
    np.testing.assert_allclose([1e-9 * clock[line["frame"]] for line in lines], [line["clock_s"] for line in lines], atol=2e-3)


def leaving() -> list[media.Picture]:
    """A second with somebody, and two without."""
    place = (-0.2, 0.3, 4.0)
    return people_pictures(FPS, [(place, place)]) + people_pictures(2 * FPS, [])


@pytest.mark.parametrize("where", ["clip.mp4", "rerun+http://127.0.0.1:9/proxy", "/nowhere/live.rrd"])
def test_a_place_that_cannot_be_is_refused(where: str):
    with pytest.raises(UsageError, match=r"expected FILE.rrd|no viewer listens|is not a folder"):
        RerunLiveSink(where, ["cam"])
