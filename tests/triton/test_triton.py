"""The network on a real Triton server, which the tests start; they skip where no server program can be had."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import media
import numpy as np
import pytest
import torch
from certificates import certificate
from components import import_or_skip, skip_without
from people import people_pictures

from mchmr_stream.cli import main
from mchmr_stream.config import Settings, load_settings
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.datatypes import CropBatch, CropEstimates, Tracks
from mchmr_stream.detection.movenet_detector import MoveNetDetector
from mchmr_stream.errors import MissingPart, ServerError, UsageError
from mchmr_stream.estimators.local import LocalEstimator
from mchmr_stream.motion.motion import load
from mchmr_stream.network.weights import load_network
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.protocols import MeshEstimator
from mchmr_stream.triton.wire_format import OUTPUT_SPECS, TensorSpec, input_specs, request_arrays

import_or_skip("tritonclient.grpc")

from triton_servers import MortalServer, children, gone

from mchmr_stream.serving.model_repository import ModelOptions, write_python_repository
from mchmr_stream.serving.server_metrics import model_work, prometheus_metrics
from mchmr_stream.serving.tritonserver import TritonServer
from mchmr_stream.serving.tritonserver_binary import TritonBinary, find_tritonserver
from mchmr_stream.triton import connection as triton_connection
from mchmr_stream.triton.connection import Connection, ServerAccess
from mchmr_stream.triton.triton_estimator import Patience, Shm, TritonEstimator

OPTIONS = ModelOptions(device="cpu", precision="fp32", threads=1, prepared_views=1)
FIELDS = [field.name for field in dataclasses.fields(CropEstimates)]


@pytest.fixture(scope="module")
def binary() -> TritonBinary:
    try:
        return find_tritonserver()
    except MissingPart as error:
        skip_without("tritonserver", str(error))


@pytest.fixture(scope="module")
def weights(quick_settings: Settings) -> str:
    """A small head that was never trained: what is tested is the way there and back."""
    return quick_settings.network.weights


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, weights: str) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_python_repository(folder, load_network(weights), weights, OPTIONS)
    return folder


@pytest.fixture(scope="module")
def server(binary: TritonBinary, repository: Path) -> Iterator[TritonServer]:
    with TritonServer(binary, repository) as running:
        running.wait()
        yield running


@pytest.fixture(scope="module")
def mortal(binary: TritonBinary, repository: Path) -> Iterator[MortalServer]:
    running = MortalServer(binary, repository)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def local(weights: str) -> Iterator[LocalEstimator]:
    threads = torch.get_num_threads()
    torch.set_num_threads(OPTIONS.threads)  # sums are split by threads: the last bits are the same only for as many
    yield LocalEstimator(weights, torch.device("cpu"), "fp32", views=1)
    torch.set_num_threads(threads)


@pytest.fixture
def served(server: TritonServer, local: MeshEstimator) -> Iterator[TritonEstimator]:
    estimator = TritonEstimator([server.grpc_address], "mchmr", expected_sha256=local.info.weights_sha256, views=1)
    yield estimator
    estimator.close()


def people(count: int, views: int, seed: int = 0) -> CropBatch:
    """Crops of coloured noise, sharp and soft, no two alike: what is mixed up or cut short shows."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, views, 3, 8, 8), dtype=np.uint8)
    crops = np.repeat(np.repeat(coarse, 32, -1), 32, -2) // 2 + rng.integers(0, 128, (count, views, 3, 256, 256), dtype=np.uint8)
    base = np.stack([rng.uniform(200, 600, count), rng.uniform(200, 400, count), rng.uniform(100, 300, count)], -1).astype(np.float32)
    spread = rng.uniform(-0.2, 0.2, (count, views, 3)).astype(np.float32)
    keypoints = np.concatenate([base[:, None, :2] + rng.normal(0, 50, (count, 17, 2)), rng.uniform(0, 1, (count, 17, 1))], -1)
    return CropBatch(
        crops=torch.from_numpy(crops),
        views_px=base[:, None] * (1 + spread),
        base_px=base,
        keypoints_px=keypoints.astype(np.float32),
        focal_px=rng.uniform(700, 1500, count).astype(np.float32),
        roll_rad=np.zeros(count, np.float32),
    )


def same(got: CropEstimates, expected: CropEstimates) -> bool:
    """To the last bit."""
    return all(np.array_equal(getattr(got, name), getattr(expected, name)) for name in FIELDS)


@pytest.mark.parametrize("shm", ["off", "system"])
def test_the_same_numbers_as_in_process(server: TritonServer, local: MeshEstimator, shm: Shm) -> None:
    served = TritonEstimator([server.grpc_address], "mchmr", expected_sha256=local.info.weights_sha256, views=1, shm=shm)
    try:
        assert (served.info.crop_size_hw, served.info.weights_sha256) == (local.info.crop_size_hw, local.info.weights_sha256)
        for views in range(1, 10):
            batch = people(1 + views % 3, views, seed=views)
            expected, got = local.estimate(batch), served.estimate(batch)
            assert np.ptp(expected.landmarks_px) > 1, "all alike: mixing them up would not show"
            for name in FIELDS:
                np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=1e-4, rtol=1e-5, err_msg=f"{name}, V={views}")
    finally:
        served.close()


@pytest.mark.parametrize("shm", ["off", "system"])
def test_real_crops_of_mixed_people(shared: Path, server: TritonServer, local: MeshEstimator, shm: Shm) -> None:
    """People of two real clips in one batch, as the pipeline crops them."""
    served = TritonEstimator([server.grpc_address], "mchmr", expected_sha256=local.info.weights_sha256, views=1, shm=shm)
    clips = [shared / "media" / "asl-walk.mkv", shared / "data" / "validation" / "pose2sim" / "cam01.mp4"]
    try:
        for views in (1, 2, 5, 9):
            batch = joined_crops([crops_of(clip, views) for clip in clips])
            assert len(batch) >= 2
            expected, got = local.estimate(batch), served.estimate(batch)
            for name in FIELDS:
                np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=1e-4, rtol=1e-5, err_msg=f"{name}, V={views}")
    finally:
        served.close()


def crops_of(clip: Path, views: int) -> CropBatch:
    """Everyone in the clip's first frame."""
    settings = load_settings(None, [f"crops.views={views}"])
    source, intrinsics = open_input(clip, settings)
    frame = next(iter(source.frames()))
    source.close()
    found = MoveNetDetector(device=torch.device("cpu")).detect([frame])[0]
    n = len(found.boxes_xyxy_px)
    alike = np.ones(n, np.float32)
    tracks = Tracks(np.arange(n), found.boxes_xyxy_px, alike, found.keypoints_px, alike > 0, found.keypoints_px)
    return Cropper(layout("wide", views)).crop(frame, tracks, intrinsics)


def joined_crops(batches: list[CropBatch]) -> CropBatch:
    """One batch of all people."""
    columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in dataclasses.fields(CropBatch)}
    return CropBatch(**{
        name: torch.cat(values) if isinstance(values[0], torch.Tensor) else np.concatenate(values) for name, values in columns.items()
    })  # fmt: skip


def test_nobody_is_not_asked_about(served: TritonEstimator) -> None:
    assert served.estimate(people(0, 3)).views_cam.shape == (0, 3, 3)


def test_a_crowd_takes_several_requests(served: TritonEstimator, local: MeshEstimator) -> None:
    crowd = people(OPTIONS.most_people + 3, 1)
    expected, got = local.estimate(crowd), served.estimate(crowd)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=1e-4, rtol=1e-5)


def test_clients_share_the_server_and_each_gets_its_own(server: TritonServer, local: MeshEstimator) -> None:
    batches = {seed: [people(1 + (seed + n) % 2, 1, seed=100 * seed + n) for n in range(8)] for seed in range(3)}
    got: dict[int, list[CropEstimates]] = {}

    def client(seed: int) -> None:
        estimator = TritonEstimator([server.grpc_address], "mchmr", expected_sha256=None, views=1)
        waiting = [estimator.submit(batch) for batch in batches[seed]]
        got[seed] = [future.result() for future in waiting]
        estimator.close()

    threads = [threading.Thread(target=client, args=(seed,)) for seed in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, answers in got.items():
        assert all(same(answer, local.estimate(batch)) for answer, batch in zip(answers, batches[seed], strict=True))


def test_one_bad_request_does_not_fail_the_others(server: TritonServer, local: MeshEstimator) -> None:
    good, bad = people(1, 1), people(1, 10)
    with Connection(server.grpc_address, "mchmr", ServerAccess()) as connection:
        about = connection.about(5)
        waiting = TritonEstimator([server.grpc_address], "mchmr", expected_sha256=None, views=1)
        futures = [waiting.submit(good) for _ in range(4)]
        with pytest.raises(ServerError, match=r"does not take the request: .*1 to 9 views"):
            connection.infer(connection.message("bad", request_arrays(bad), input_specs(about.crop_size_hw)), 5)
        assert all(same(future.result(), local.estimate(good)) for future in futures)
        waiting.close()


def test_crops_of_another_size_are_refused_by_the_server(server: TritonServer) -> None:
    batch = people(1, 1)
    small = dataclasses.replace(batch, crops=batch.crops[..., ::2, ::2])
    with Connection(server.grpc_address, "mchmr", ServerAccess()) as connection:
        about = connection.about(5)
        with pytest.raises(ServerError, match="does not take the request"):
            connection.infer(connection.message("small", request_arrays(small), input_specs(about.crop_size_hw)), 5)


def test_other_weights_are_refused_with_both_hashes(server: TritonServer, local: MeshEstimator) -> None:
    with pytest.raises(ServerError, match=f"{local.info.weights_sha256[:16]}, expected 0123456789abcdef;.*any_weights"):
        TritonEstimator([server.grpc_address], "mchmr", expected_sha256="0123456789abcdef" * 4, views=1)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (TensorSpec("LANDMARKS_PX", "FP32", (3, 3)), r"has LANDMARKS_PX of \[27, 3\] for each person, expected \[3, 3\]: .*update one"),
        (TensorSpec("HANDS", "FP32", (2, 15, 3, 3)), r"has no tensor HANDS: it is of mchmr-stream [0-9.]+; update one"),
    ],
)
def test_a_server_of_another_version_is_refused(
    spec: TensorSpec, complaint: str, server: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_connection, "OUTPUT_SPECS", (*OUTPUT_SPECS[:-1], spec))
    with pytest.raises(ServerError, match=complaint):
        TritonEstimator([server.grpc_address], "mchmr", expected_sha256=None, views=1)


def test_a_server_that_is_not_there_is_named_at_once(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = media.write_video(tmp_path / "clip.mp4", media.counter_pictures(3))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        assert main(["video", str(clip), "-o", str(tmp_path / "out"), "--triton", address]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert f"no Triton server answers at {address}" in said[0]
    assert "mchmr serve" in said[0]


def test_an_unknown_model_is_named(server: TritonServer) -> None:
    with pytest.raises(ServerError, match=r"has no model missing .*triton.model"):
        TritonEstimator([server.grpc_address], "missing", expected_sha256=None, views=1)


def test_an_address_without_port_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        load_settings(None, ["triton.servers=[localhost]"])


def test_headers_are_not_written_down() -> None:
    settings = load_settings(None, ['triton.headers={authorization: "Bearer verysecret"}'])
    assert "verysecret" not in str(settings.model_dump(mode="json"))
    assert "verysecret" not in repr(settings)


def run_through(
    server: MortalServer, local: LocalEstimator, befall: Callable[[], None], *, spare: str | None = None, patience: Patience | None = None
) -> bool:
    """Twelve batches, four on their way at a time; something befalls the server in the middle. Whether all came, each its own."""
    batches = [people(1 + number % 2, 1, seed=number) for number in range(12)]
    servers = [server.address, *([spare] if spare is not None else [])]
    estimator = TritonEstimator(servers, "mchmr", expected_sha256=local.info.weights_sha256, views=1, patience=patience)
    try:
        waiting = []
        for number, batch in enumerate(batches):
            if number == 5:
                befall()
            waiting.append(estimator.submit(batch))
        return all(same(future.result(), local.estimate(batch)) for future, batch in zip(waiting, batches, strict=True))
    finally:
        estimator.close()


def test_a_server_that_is_killed_and_comes_back_loses_nothing(mortal: MortalServer, local: LocalEstimator) -> None:
    def restart() -> None:
        mortal.kill()
        mortal.start(wait=False)

    assert run_through(mortal, local, restart)


def test_a_model_process_that_is_killed_is_loaded_again(mortal: MortalServer, local: LocalEstimator) -> None:
    before = mortal.model_processes()
    assert run_through(mortal, local, lambda: [os.kill(pid, signal.SIGKILL) for pid in before] and None)
    assert set(mortal.model_processes()) - set(before)


def test_a_server_that_hangs_for_a_while_is_waited_for(mortal: MortalServer, local: LocalEstimator) -> None:
    pid = mortal.running.pid
    assert pid is not None

    def hang() -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(1.5, os.kill, (pid, signal.SIGCONT)).start()

    assert run_through(mortal, local, hang, patience=Patience(deadline_s=0.7, budget_s=30))


@pytest.mark.clock
def test_a_server_that_hangs_for_good_is_given_up_in_time(mortal: MortalServer, local: LocalEstimator) -> None:
    pid = mortal.running.pid
    assert pid is not None
    start = time.monotonic()
    try:
        with pytest.raises(ServerError, match=r"did not come back within triton.budget_s=1 s: .*no answer within"):
            run_through(mortal, local, lambda: os.kill(pid, signal.SIGSTOP), patience=Patience(deadline_s=0.5, budget_s=1))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - start < 8


def test_the_next_server_takes_over(mortal: MortalServer, server: TritonServer, local: LocalEstimator) -> None:
    try:
        assert run_through(mortal, local, mortal.kill, spare=server.grpc_address)
    finally:
        mortal.start()


def test_a_full_queue_is_tried_again(
    binary: TritonBinary, repository: Path, local: LocalEstimator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mchmr_stream")

    crowded = tmp_path / "models"
    shutil.copytree(repository, crowded)
    config = crowded / "mchmr" / "config.pbtxt"
    config.write_text(
        config.read_text().replace(
            "dynamic_batching { }", "dynamic_batching { preferred_batch_size: [ 1 ], default_queue_policy { max_queue_size: 1 } }"
        )
    )
    with TritonServer(binary, crowded) as running:
        running.wait()
        batches = [people(8, 1, seed=number) for number in range(4)]
        estimators = [TritonEstimator([running.grpc_address], "mchmr", expected_sha256=None, views=1) for _ in range(3)]
        waiting = [(estimator.submit(batch), batch) for batch in batches for estimator in estimators]
        assert all(same(future.result(), local.estimate(batch)) for future, batch in waiting)
        for estimator in estimators:
            estimator.close()
        assert "queue is full" in caplog.text
        assert "lost" not in caplog.text


@pytest.mark.clock
def test_statistics_count_what_was_done(server: TritonServer, served: TritonEstimator) -> None:
    with Connection(server.grpc_address, "mchmr", ServerAccess()) as connection:
        before = model_work(connection)
        for _ in range(3):
            served.estimate(people(2, 1))
        until = time.monotonic() + 5
        while (done := model_work(connection) - before).requests < 3 and time.monotonic() < until:
            time.sleep(0.02)  # Triton counts after it has answered
    assert (done.requests, done.people, done.executions, done.failures, done.mean_batch) == (3, 6, 3, 0, 2.0)
    assert done.compute_s > 0
    assert prometheus_metrics(server.metrics_url)['nv_inference_count{model="mchmr",version="1"}'] >= 6
    assert {name: len(seconds) for name, seconds in served.watch.seconds.items()} == {"copy": 3, "round trip": 3}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_video(tmp_path / "walk.mp4", people_pictures(24, [((-0.3, 0.3, 4.0), (0.3, 0.3, 4.0))]), fps=10)


@pytest.fixture
def quick(quick_settings: Settings) -> list[str]:
    """`quick_settings` for the command line."""
    return [
        "--set", f"network.weights={quick_settings.network.weights}", "--set", "network.precision=fp32", "--views", "1",
        "--set", "detector.input_px=256", "--set", "runtime.threads=1", "--device", "cpu", "--no-overlay",
    ]  # fmt: skip


def test_a_video_gives_the_same_bodies_as_in_process(server: TritonServer, clip: Path, quick: list[str], tmp_path: Path) -> None:
    assert main(["video", str(clip), "-o", str(tmp_path / "here"), *quick]) == 0
    assert main(["video", str(clip), "-o", str(tmp_path / "there"), *quick, "--triton", server.grpc_address]) == 0
    here, there = (load(tmp_path / folder / "walk.npz") for folder in ("here", "there"))
    assert here.tracks
    assert here.tracks.keys() == there.tracks.keys()
    for name, track in here.tracks.items():
        for field in ("frame", "body_pose", "global_orient", "transl", "betas"):
            # In process several frames are a batch, on the server each is one: sums in another order.
            np.testing.assert_allclose(getattr(there.tracks[name], field), getattr(track, field), rtol=1e-5, atol=1e-5)


@pytest.mark.clock
def test_a_server_lost_for_good_keeps_what_was_done_and_resume_goes_on(
    mortal: MortalServer, clip: Path, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = ["video", str(clip), "-o", str(out), *quick, "--triton", mortal.address]
    assert main([*arguments[:3], str(whole), *arguments[4:]]) == 0

    def kill_after_some() -> None:
        with Connection(mortal.address, "mchmr", ServerAccess()) as connection:
            done = model_work(connection).requests
            while model_work(connection).requests < done + 18:
                time.sleep(0.002)
        mortal.kill()

    killer = threading.Thread(target=kill_after_some)
    killer.start()
    capsys.readouterr()
    assert main([*arguments, "--set", "triton.budget_s=0.5"]) == 1
    killer.join()
    said = capsys.readouterr().err.strip().splitlines()
    assert "did not come back within triton.budget_s=0.5 s" in said[-1]
    kept = load(out / "walk.npz")
    assert 0 < len(kept.frames) < 24
    mortal.start()
    assert main([*arguments, "--resume"]) == 0
    assert load(out / "walk.npz").frames.tolist() == load(whole / "walk.npz").frames.tolist()


def test_killing_mchmr_serve_leaves_nothing_behind(binary: TritonBinary, weights: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mchmr_stream", "serve", "--device", "cpu", "--weights", weights, "--views", "1", "--port", str(port)]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    before = set(os.listdir("/dev/shm"))
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    try:
        assert serving.stdout is not None
        assert f"127.0.0.1:{port}" in serving.stdout.readline()
        (keeper,) = children(serving.pid)
        (triton,) = children(keeper)
        processes = [keeper, triton, *children(triton)]
        assert len(processes) == 3
        assert set(os.listdir("/dev/shm")) - before
    finally:
        serving.kill()
        serving.wait()
    assert all(gone(pid) for pid in processes)
    assert set(os.listdir("/dev/shm")) <= before
    assert not list(tmp_path.glob("mchmr-triton-*"))


def test_an_open_estimator_does_not_keep_the_program_from_ending(server: TritonServer) -> None:
    program = f"""
from mchmr_stream.triton.triton_estimator import TritonEstimator
estimator = TritonEstimator(["{server.grpc_address}"], "mchmr", expected_sha256=None, views=1)
print("open")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "open", "")


def test_regions_of_a_killed_client_are_given_back(server: TritonServer) -> None:
    program = f"""
import os, signal
from mchmr_stream.triton.triton_estimator import TritonEstimator
estimator = TritonEstimator(["{server.grpc_address}"], "mchmr", expected_sha256=None, views=1, shm="system")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    with Connection(server.grpc_address, "mchmr", ServerAccess()) as connection:
        left = connection.memory_regions(5)
        assert left
        TritonEstimator([server.grpc_address], "mchmr", expected_sha256=None, views=1, shm="system").close()
        assert not set(connection.memory_regions(5)) & set(left)


def test_no_room_for_shared_memory_is_told(server: TritonServer, local: LocalEstimator, caplog: pytest.LogCaptureFixture) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))  # as a /dev/shm that is full: files cannot grow
    try:
        with pytest.raises(ServerError, match=r"no room for .* MiB of crops in /dev/shm .*--shm off"):
            TritonEstimator([server.grpc_address], "mchmr", expected_sha256=None, views=1, shm="system")
        estimator = TritonEstimator([server.grpc_address], "mchmr", expected_sha256=None, views=1, shm="auto")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "crops go over gRPC" in caplog.text
    assert same(estimator.estimate(people(1, 1)), local.estimate(people(1, 1)))
    estimator.close()


def test_tls_with_certificates_on_both_sides_and_a_header_that_lets_in(
    binary: TritonBinary, repository: Path, local: MeshEstimator, tmp_path: Path
) -> None:
    """A server that speaks TLS only, wants a certificate of the client, and infers only for those who send its token."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    authority, server, client = (certificate(tmp_path, name, "authority") for name in ("authority", "server", "client"))
    arguments = [
        "--grpc-use-ssl=true", "--grpc-use-ssl-mutual=true", f"--grpc-server-cert={server[0]}", f"--grpc-server-key={server[1]}",
        f"--grpc-root-cert={authority[0]}", "--grpc-restricted-protocol=inference:token=let-me-in",
    ]  # fmt: skip
    trusted = {"tls": True, "ca_file": authority[0], "cert_file": client[0], "key_file": client[1]}
    access = ServerAccess(**trusted, headers={"Triton-Grpc-Protocol-Token": "let-me-in"})
    with TritonServer(binary, repository, arguments=arguments) as running:
        running.wait(access=access)

        def connect(how: ServerAccess) -> TritonEstimator:
            return TritonEstimator([running.grpc_address], "mchmr", expected_sha256=local.info.weights_sha256, views=1, access=how)

        let_in = connect(access)
        assert same(let_in.estimate(people(2, 1)), local.estimate(people(2, 1)))
        let_in.close()
        refused = (
            ServerAccess(),
            ServerAccess(tls=True),
            ServerAccess(tls=True, ca_file=authority[0]),
            ServerAccess(**trusted),
            ServerAccess(**trusted, headers={"triton-grpc-protocol-token": "wrong"}),
        )
        for how in refused:
            with pytest.raises(ServerError, match=running.grpc_address):
                connect(how)
