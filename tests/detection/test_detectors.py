"""Every detector: what a user of `detect` can rely on."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from components import import_or_skip
from hypothesis import given, settings
from hypothesis import strategies as st
from rendered_people import LIMB_NAMES, render

from mchmr_stream.datatypes import KEYPOINT_NAMES, Detections, Frame
from mchmr_stream.detection import given_boxes as boxes_module
from mchmr_stream.detection.centernet import People
from mchmr_stream.detection.given_boxes import BoxesDetector
from mchmr_stream.detection.mediapipe_detector import MediaPipeDetector, MediaPipeReference
from mchmr_stream.detection.movenet_detector import SHIFT_PX, MoveNetDetector, in_picture, network_input, size_inside
from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.movenet.multipose import STRIDE
from mchmr_stream.network.landmarks import COCO_MIRROR

LIMBS = [KEYPOINT_NAMES.index(name) for name in LIMB_NAMES]


def frame_of(rgb: np.ndarray, index: int = 0) -> Frame:
    return Frame(index, index / 30, np.ascontiguousarray(rgb))


def blank(width: int, height: int, index: int = 0) -> Frame:
    return frame_of(np.full((height, width, 3), 128, np.uint8), index)


def same(a: Detections, b: Detections) -> bool:
    pairs = ((a.boxes_xyxy_px, b.boxes_xyxy_px), (a.scores, b.scores), (a.keypoints_px, b.keypoints_px))
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


@pytest.fixture(scope="module")
def movenet() -> MoveNetDetector:
    return MoveNetDetector()


@pytest.fixture(scope="module")
def three_people() -> tuple[np.ndarray, np.ndarray]:
    return render(1280, 720, [(-1.5, 0.2, 4.5), (0.0, 0.2, 4.5), (1.2, 0.2, 5.0)])


class TestMoveNet:
    def test_finds_rendered_people_and_their_limbs(self, movenet: MoveNetDetector, three_people: tuple[np.ndarray, np.ndarray]) -> None:
        rgb, limbs = three_people
        found = movenet.detect([frame_of(rgb)])[0]
        assert len(found) == 3
        for person in range(3):
            distance = np.linalg.norm(found.keypoints_px[person, LIMBS, :2] - limbs, axis=-1)
            nearest = distance.mean(1).argmin()
            # The two skeletons' hips and shoulders are not quite the same points: a twentieth of 500 px.
            assert distance[nearest].mean() < 13
            assert distance[nearest].max() < 30
            x0, y0, x1, y1 = found.boxes_xyxy_px[person]
            inside = limbs[nearest].clip(0, [1279, 719])
            assert (inside >= (x0 - 10, y0 - 10)).all()
            assert (inside <= (x1 + 10, y1 + 10)).all()

    def test_people_who_overlap_keep_their_own_limbs(self, movenet: MoveNetDetector) -> None:
        rgb, limbs = render(1280, 720, [(-0.25, 0.2, 4.0), (0.25, 0.2, 4.6)])
        found = movenet.detect([frame_of(rgb)])[0]
        assert len(found) == 2
        order = found.boxes_xyxy_px[:, 0].argsort()
        for person, want in zip(found.keypoints_px[order], limbs, strict=True):
            got = person[LIMBS]
            seen = got[:, 2] > 0.3
            assert seen.sum() >= 9
            assert np.median(np.linalg.norm(got[seen, :2] - want[seen], axis=-1)) < 15

    def test_a_mirrored_picture_gives_mirrored_people(self, movenet: MoveNetDetector, three_people: tuple[np.ndarray, np.ndarray]) -> None:
        """Half a pixel wrong in the network's input would be 1.7 pixels of this picture."""
        rgb, _ = three_people
        straight, mirrored = movenet.detect([frame_of(rgb), frame_of(rgb[:, ::-1])])
        back = mirrored.keypoints_px[:, COCO_MIRROR]
        back[..., 0] = rgb.shape[1] - 1 - back[..., 0]
        back = back[mirrored.boxes_xyxy_px[:, 0].argsort()[::-1]]
        difference = straight.keypoints_px[straight.boxes_xyxy_px[:, 0].argsort()][..., 0] - back[..., 0]
        assert abs(np.median(difference)) / 2 < 0.6

    @pytest.mark.parametrize(("width", "height"), [(1280, 720), (1079, 1919), (333, 500), (96, 64)])
    def test_scaling_maps_exactly(self, width: int, height: int) -> None:
        """A soft spot's centre of mass, found in the network's input, is mapped back to where it is in the picture."""
        y, x = np.mgrid[:height, :width]
        at, spread = np.array([0.3 * width, 0.6 * height]), max(width, height) / 30
        spot = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2 / spread**2)
        inside = size_inside((height, width), 384)
        scaled = network_input(np.repeat(spot[..., None], 3, -1).astype(np.uint8), inside)[0, 0].numpy().astype(float)
        assert scaled.shape[0] % 32 == scaled.shape[1] % 32 == 0
        rows, columns = np.mgrid[: scaled.shape[0], : scaled.shape[1]] + 0.5
        center = np.array([(columns * scaled).sum(), (rows * scaled).sum()]) / scaled.sum()
        cells = torch.tensor((center - SHIFT_PX) / STRIDE, dtype=torch.float32)
        people = everywhere(cells)
        got = in_picture(people, (height, width), inside).keypoints_px[0, 0, :2]
        np.testing.assert_allclose(got, at, atol=0.02 * max(width, height) / 384 + 0.1)

    def test_order_batch_and_mixed_sizes_do_not_matter(self, movenet: MoveNetDetector, three_people: tuple[np.ndarray, np.ndarray]) -> None:
        rgb, _ = three_people
        frames = [frame_of(rgb), frame_of(rgb[:, :500]), blank(1280, 720), frame_of(rgb[:, 300:800]), frame_of(rgb[:, ::-1])]
        together = movenet.detect(frames)
        for frame, found in zip(frames, together, strict=True):
            assert same(movenet.detect([frame])[0], found)
        assert len(together[0]) == 3
        assert len(together[2]) == 0
        assert movenet.detect([]) == []

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2000), (2000, 3), (33, 31)])
    def test_pictures_of_any_size(self, movenet: MoveNetDetector, width: int, height: int) -> None:
        found = movenet.detect([frame_of(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))])[0]
        assert (found.boxes_xyxy_px >= 0).all()
        assert (found.boxes_xyxy_px[:, 2:] <= (width - 1, height - 1)).all()

    def test_fp32_and_bf16_see_the_same(self, three_people: tuple[np.ndarray, np.ndarray]) -> None:
        rgb, _ = three_people
        exact, rounded = (MoveNetDetector(precision=p).detect([frame_of(rgb)])[0] for p in ("fp32", "bf16"))
        assert len(exact) == len(rounded) == 3
        exact_order, rounded_order = (found.boxes_xyxy_px[:, 0].argsort() for found in (exact, rounded))
        apart = np.linalg.norm((exact.keypoints_px[exact_order] - rounded.keypoints_px[rounded_order])[..., :2], axis=-1)
        assert np.median(apart) < 1.0  # picture pixels; the input is 3.3 times smaller
        assert apart.max() < 5
        np.testing.assert_allclose(exact.boxes_xyxy_px[exact_order], rounded.boxes_xyxy_px[rounded_order], atol=4)
        np.testing.assert_allclose(exact.scores[exact_order], rounded.scores[rounded_order], atol=0.02)

    @pytest.mark.slow
    def test_real_people_at_either_precision(self, shared: Path) -> None:
        """A walker, alone, in each third of a second; two sides of the same pictures agree to half a pixel of the input."""
        frames = clip_frames(shared / "media/one-by-one-person-detection.mp4", range(560, 640, 10))
        exact, rounded = (MoveNetDetector(precision=p, min_score=0.3).detect(frames) for p in ("fp32", "bf16"))
        assert [len(found) for found in exact] == [len(found) for found in rounded]
        assert sum(len(found) > 0 for found in exact) >= 7
        apart = [
            np.linalg.norm((a.keypoints_px - b.keypoints_px)[..., :2], axis=-1)[a.keypoints_px[..., 2] > 0.3]
            for a, b in zip(exact, rounded, strict=True)
            if len(a) == 1
        ]
        assert np.median(np.concatenate(apart)) < 1.0

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_a_gpu_sees_what_the_cpu_sees(self, three_people: tuple[np.ndarray, np.ndarray]) -> None:
        frames = [frame_of(three_people[0]), frame_of(three_people[0][:, ::-1]), blank(1280, 720)]
        on_cpu = MoveNetDetector(precision="fp32").detect(frames)
        on_gpu = MoveNetDetector(precision="fp32", device="cuda", batch=2).detect(frames)
        for a, b in zip(on_cpu, on_gpu, strict=True):
            assert len(a) == len(b)
            np.testing.assert_allclose(a.boxes_xyxy_px, b.boxes_xyxy_px, atol=1)
            assert len(a) == 0 or np.median(np.abs(a.keypoints_px - b.keypoints_px)) < 0.5

    @pytest.mark.parametrize(
        "wrong", [{"input_px": 8}, {"min_score": 1.5}, {"batch": 0}, {"precision": "fp8"}, {"min_score": float("nan")}]
    )
    def test_values_out_of_range_are_refused(self, wrong: dict) -> None:
        with pytest.raises(UsageError, match="expected"):
            MoveNetDetector(**wrong)


def everywhere(cells_xy: torch.Tensor) -> People:
    """One person all of whose points are at one place."""
    keypoints = torch.cat([cells_xy.expand(17, 2), torch.ones(17, 1)], -1)[None]
    return People(torch.tensor([[-99.0, -99.0, 999.0, 999.0]]), torch.ones(1), keypoints)


def clip_frames(path: Path, wanted: range) -> list[Frame]:
    with av.open(str(path)) as container:
        return [
            frame_of(picture.to_ndarray(format="rgb24"), index)
            for index, picture in zip(range(wanted.stop), container.decode(video=0), strict=False)
            if index in wanted
        ]


@pytest.fixture(scope="module")
def person() -> tuple[np.ndarray, np.ndarray]:
    rgb, limbs = render(640, 640, [(0.0, 0.1, 4.0)])
    return rgb, limbs[0]


class TestMediaPipe:
    def test_finds_the_person_and_forgets_them(self, person: tuple[np.ndarray, np.ndarray]) -> None:
        import_or_skip("mediapipe")
        rgb, limbs = person
        detector = MediaPipeDetector()
        first, nobody, again = detector.detect([frame_of(rgb), blank(640, 640), frame_of(rgb)])
        detector.close()
        assert (len(first), len(nobody), len(again)) == (1, 0, 1)
        assert same(first, again)
        distance = np.linalg.norm(first.keypoints_px[0, LIMBS, :2] - limbs, axis=-1)
        assert distance.mean() < 15  # of a person 400 px tall
        x0, y0, x1, y1 = first.boxes_xyxy_px[0]
        assert (limbs > (x0, y0)).all()
        assert (limbs < (x1, y1)).all()

    def test_the_reference_gives_metres_about_the_hips(self, person: tuple[np.ndarray, np.ndarray]) -> None:
        import_or_skip("mediapipe")
        rgb, limbs = person
        reference = MediaPipeReference()
        assert reference.landmarks(blank(640, 640).rgb, 0.0) is None
        for step in range(1, 4):
            found = reference.landmarks(rgb, step / 30)
        assert found is not None
        world, image = found
        assert world.shape == (33, 3)
        assert image.shape == (33, 4)
        left_hip, right_hip = 23, 24
        assert np.abs(world[[left_hip, right_hip]].mean(0)).max() < 0.02
        assert 0.6 < world[[27, 28], 1].mean() < 1.1  # ankles below the hips: y is down
        assert np.linalg.norm(image[[11, 12, 23, 24], :2] - limbs[[0, 1, 6, 7]], axis=-1).mean() < 25
        with pytest.raises(UsageError, match="grow"):
            reference.landmarks(rgb, 3 / 30)
        reference.close()

    def test_without_the_package_it_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mediapipe", None)
        with pytest.raises(MissingPart, match="pip install mediapipe"):
            MediaPipeDetector()

    def test_without_a_system_library_it_says_which(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            def find_spec(self, name: str, *_: object) -> None:
                if name == "mediapipe":
                    raise ImportError("libGL.so.1: cannot open shared object file")

        monkeypatch.delitem(sys.modules, "mediapipe", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        with pytest.raises(MissingPart, match=r"libGL\.so\.1.*apt install libgl1.*movenet detector needs none"):
            MediaPipeDetector()

    def test_a_file_that_is_no_model_is_refused(self, tmp_path: Path) -> None:
        import_or_skip("mediapipe")
        (tmp_path / "bad.task").write_bytes(b"not a bundle")
        with pytest.raises(InputError, match=r"bad\.task"):
            MediaPipeDetector(tmp_path / "bad.task")
        with pytest.raises(MissingPart, match="make_mediapipe_bundle"):
            MediaPipeDetector(tmp_path / "none.task")


corner = st.floats(0, 5000, width=32)
size = st.floats(0.5, 3000, width=32)
score = st.floats(0, 1, width=32)
people_by_frame = st.dictionaries(st.integers(0, 8), st.lists(st.tuples(corner, corner, size, size, score), max_size=4), max_size=6)


def detect_all(detector: BoxesDetector, frames: int = 9) -> list[Detections]:
    """On a picture so large that no box is outside."""
    huge = np.broadcast_to(np.zeros((1, 1, 1), np.uint8), (100_000, 100_000, 3))
    return detector.detect([Frame(index, 0.0, huge) for index in range(frames)])


class TestBoxes:
    @given(people_by_frame)
    @settings(max_examples=40, deadline=None)
    def test_mot_text_comes_back(self, tmp_path_factory: pytest.TempPathFactory, people: dict) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        for frame, boxes in people.items():
            writer.writerows([frame + 1, 7, x, y, w, h, s, -1, -1, -1] for x, y, w, h, s in boxes)
        file = tmp_path_factory.mktemp("mot") / "det.txt"
        file.write_text(text.getvalue())
        for frame, found in enumerate(detect_all(BoxesDetector(file))):
            want = people.get(frame, [])
            assert len(found) == len(want)
            for box, s, (x, y, w, h, conf) in zip(found.boxes_xyxy_px, found.scores, want, strict=True):
                # The corner of the picture is half a pixel from the first pixel's centre.
                np.testing.assert_allclose(box + 0.5, [x, y, x + w, y + h], rtol=1e-5, atol=1e-3)
                assert s == pytest.approx(conf)
            assert np.isnan(found.keypoints_px[..., :2]).all()

    @given(people_by_frame, st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_both_json_forms_say_the_same(self, tmp_path_factory: pytest.TempPathFactory, people: dict, as_image_id: bool) -> None:
        folder = tmp_path_factory.mktemp("json")
        rng = np.random.default_rng(0)
        by_frame: dict[str, list] = {}
        coco = []
        for frame, boxes in people.items():
            by_frame[str(frame)] = []
            for x, y, w, h, s in boxes:
                keypoints = [[float(a), float(b), 0.5] for a, b in rng.uniform(0, 900, (16, 2))] + [None]
                box = [x - 0.5, y - 0.5, x + w - 0.5, y + h - 0.5]
                by_frame[str(frame)].append({"box_xyxy_px": box, "score": s, "keypoints_px": keypoints})
                flat = [value for keypoint in keypoints for value in (keypoint or [0, 0, 0])]
                key = "image_id" if as_image_id else "frame"
                coco.append({key: frame, "category_id": 1, "bbox": [x, y, w, h], "score": s, "keypoints": flat})
        (folder / "frames.json").write_text(json.dumps({"frames": by_frame}))
        (folder / "coco.JSON").write_text(json.dumps(coco))
        one, other = (detect_all(BoxesDetector(folder / name)) for name in ("frames.json", "coco.JSON"))
        for frame, (a, b) in enumerate(zip(one, other, strict=True)):
            assert len(a) == len(b) == len(people.get(frame, []))
            np.testing.assert_allclose(a.boxes_xyxy_px, b.boxes_xyxy_px, rtol=1e-5, atol=1e-3)
            np.testing.assert_array_equal(a.keypoints_px, b.keypoints_px)
            assert np.isnan(a.keypoints_px[:, 16, :2]).all()
            assert (a.keypoints_px[:, 16, 2] == 0).all()
            assert (a.keypoints_px[:, :16, 2] == 0.5).all()

    def test_defaults_scores_and_boxes_outside(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        file = tmp_path / "det.txt"
        file.write_text("\n1,-1,10,20,30,40\n1,-1,10,20,30,40,-1,-1,-1,-1\n1,-1,10,20,30,40,0.2\n2,1,700,10,50,50,1\n2,1,-20,10,50,50,1\n")
        first, second, third = BoxesDetector(file, min_score=0.3).detect([blank(640, 480, index) for index in range(3)])
        np.testing.assert_array_equal(first.scores, [1, 1])
        np.testing.assert_array_equal(second.boxes_xyxy_px, [[-20.5, 9.5, 29.5, 59.5]])
        assert len(third) == 0
        assert "outside the 640 x 480 picture" in caplog.text

    @pytest.mark.parametrize("text", ["", "\n\n", '{"frames": {}}', '{"frames": {"3": []}}', "[]"])
    def test_nobody_at_all_is_fine(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / ("none.json" if text.startswith(("{", "[")) else "none.txt")
        file.write_text(text)
        assert [len(found) for found in detect_all(BoxesDetector(file), 5)] == [0] * 5

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("1,1,2,3,4", "line 2: got 5 columns, expected frame,id,left"),
            ("0,1,2,3,4,5", "line 2: got frame '0', expected a whole number from 1"),
            ("1.5,1,2,3,4,5", "line 2: got frame '1.5'"),
            ("1,1,x,3,4,5", "line 2: got 'x', expected a number"),
            ("1,1,nan,3,4,5", "line 2: got nan"),
            ("1,1,2,inf,4,5", "line 2: got inf"),
            ("1,1,2,3,-4,5", "line 2: got width -4 and height 5, expected both larger than 0"),
            ("1,1,2,3,4,0", "line 2: got width 4 and height 0"),
            ("1,1,2,3,4,5,1.5", "line 2: got score 1.5, expected 0 to 1"),
            ("1 1 2 3 4 5", "line 2: got 1 columns"),
        ],
    )
    def test_bad_lines_are_named(self, tmp_path: Path, line: str, why: str) -> None:
        file = tmp_path / "det.txt"
        file.write_text(f"1,1,2,3,4,5,1\n{line}\n")
        with pytest.raises(InputError) as caught:
            BoxesDetector(file)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ('{"frames": {"0": [}}', "line 1"),
            ('{"boxes": 1}', "got an object with 'boxes', expected {\"frames\""),
            ('{"frames": {"a": []}}', "key 'a', expected a frame's number from 0"),
            ('{"frames": {"0": 3}}', "frame 0: got 3, expected a list of boxes"),
            ('{"frames": {"0": [{"score": 1}]}}', "frame 0 box 0: got an object with 'score'"),
            ('{"frames": {"0": [{"box_xyxy_px": [1, 2, 3]}]}}', "got a list of 3, expected 4 numbers"),
            ('{"frames": {"0": [{"box_xyxy_px": [5, 2, 3, 9]}]}}', "x1 larger than x0"),
            ('{"frames": {"0": [{"box_xyxy_px": [1, 2, 3, NaN]}]}}', "hold NaN"),
            ('{"frames": {"0": [{"box_xyxy_px": [1, 2, 3, 1e999]}]}}', "got inf"),
            ('{"frames": {"0": [{"box_xyxy_px": [1, 2, 3, true]}]}}', "got True"),
            ('{"frames": {"0": [{"box_xyxy_px": [1, 2, 3, 4], "score": 2}]}}', "score 2, expected 0 to 1"),
            ('{"frames": {"0": [{"box_xyxy_px": [1, 2, 3, 4], "keypoints_px": [[1, 2, 3]]}]}}', "got a list of 1, expected 17"),
            ('[{"bbox": [1, 2, 3, 4]}]', "entry 0: got an object with 'bbox', expected"),
            ('[{"image_id": -1, "bbox": [1, 2, 3, 4]}]', "frame -1, expected a frame's number from 0"),
            ('[{"image_id": 0, "bbox": [1, 2, -3, 4]}]', "entry 0 bbox: got width -3"),
            ('[{"image_id": 0, "bbox": [1, 2, 3, 4], "keypoints": [1]}]', "entry 0 keypoints: got a list of 1, expected 51 numbers"),
            ("[" * 100_000, "nested"),
            ('[{"image_id": 0, "bbox": [1, 2, 3, ' + "9" * 4000 + "]}]", "entry 0 bbox: got 999"),
        ],
    )
    def test_bad_json_is_named(self, tmp_path: Path, text: str, why: str) -> None:
        file = tmp_path / "boxes.json"
        file.write_text(text)
        with pytest.raises(InputError) as caught:
            BoxesDetector(file)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400

    @given(st.binary(max_size=200), st.sampled_from(["a.txt", "a.json"]))
    @settings(max_examples=60, deadline=None)
    def test_any_bytes_are_read_or_refused(self, tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
        file = tmp_path_factory.mktemp("any") / name
        file.write_bytes(data)
        try:
            BoxesDetector(file)
        except InputError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 - either outcome is right

    def test_files_that_are_not_there_or_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match="No such file"):
            BoxesDetector(tmp_path / "none.txt")
        file = tmp_path / "large.txt"
        file.write_text("1,1,2,3,4,5,1\n" * 10)
        monkeypatch.setattr(boxes_module, "MAX_MOT_BYTES", 100)
        with pytest.raises(InputError, match="140 bytes, expected at most 100"):
            BoxesDetector(file)
        with pytest.raises(UsageError, match="expected 0 to 1"):
            BoxesDetector(file, min_score=2)
