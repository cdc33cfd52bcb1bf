"""Calibration files of other programs give the camera that they describe, and what cannot be the picture's camera is refused by name."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from components import import_or_skip

from mchmr_stream.camera_files import load_camera
from mchmr_stream.config import CameraSettings, Settings, load_settings
from mchmr_stream.datatypes import SourceInfo
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.geometry.distortion import distort_points, undistort_points
from mchmr_stream.pipeline.factory import with_camera

WIDTH, HEIGHT = 1280, 720
K = [[900.0, 0, 650.5], [0, 905.0, 351.25], [0, 0, 1]]
CAMERA = Intrinsics(900.0, 905.0, 650.5, 351.25)
FIVE = [-0.3, 0.1, 0.001, -0.002, 0.05]
EIGHT = [-0.2, 0.1, 0.001, -0.002, 0.01, 0.02, -0.01, 0.03]
ROS = {
    "image_width": WIDTH, "image_height": HEIGHT, "camera_name": "front", "distortion_model": "plumb_bob",
    "camera_matrix": {"rows": 3, "cols": 3, "data": [900, 0, 650.5, 0, 905, 351.25, 0, 0, 1]},
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": FIVE},
    "projection_matrix": {"rows": 3, "cols": 4, "data": [0] * 12},
}  # fmt: skip
KALIBR = """
cam0:
  camera_model: pinhole
  distortion_coeffs: [-0.3, 1e-1, 0.001, -0.002]
  distortion_model: radtan
  intrinsics: [900.0, 905.0, 650.5, 351.25]
  resolution: [1280, 720]
  rostopic: /cam0/image_raw
cam1:
  T_cn_cnm1: [[1, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
  camera_model: pinhole
  distortion_coeffs: [-0.013, 0.054, -0.049, 0.013]
  distortion_model: equidistant
  intrinsics: [900.0, 905.0, 650.5, 351.25]
  resolution: [1280, 720]
"""
COLMAP = """# Camera list with one line of data per camera:
#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]
1 OPENCV 1280 720 900 905 651 351.75 -0.3 0.1 0.001 -0.002
2 FULL_OPENCV 1280 720 900 905 651 351.75 -0.2 0.1 0.001 -0.002 0.01 0.02 -0.01 0.03
3 SIMPLE_RADIAL 1280 720 900 640 360 0.1
4 OPENCV_FISHEYE 1280 720 900 905 651 351.75 -0.3 0.1 0.001 -0.002
"""
OPENCV_YAML = """%YAML:1.0
---
calibration_time: "Mon 30 Nov 2026"
image_Width: 1280
image_Height: 720
Camera_Matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 9.0000000000000000e+02, 0., 6.5050000000000000e+02, 0.,
       9.0500000000000000e+02, 3.5125000000000000e+02, 0., 0., 1. ]
Distortion_Coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -3.0000000000000000e-01, 1.0000000000000001e-01, 1.0e-03, -2.0e-03, 5.0e-02 ]
fisheye_model: 0
"""
OPENCV_XML = """<?xml version="1.0"?>
<opencv_storage>
<image_width>1280</image_width>
<image_height>720</image_height>
<camera_matrix type_id="opencv-matrix"><rows>3</rows><cols>3</cols><dt>d</dt>
  <data>900. 0. 6.5050000000000000e+02 0. 905. 3.5125e+02 0. 0. 1.</data></camera_matrix>
<distortion_coefficients type_id="opencv-matrix"><rows>1</rows><cols>5</cols><dt>d</dt>
  <data>-0.3 0.1 0.001 -0.002 0.05</data></distortion_coefficients>
</opencv_storage>
"""
POSE2SIM = """[cam_01]
name = "cam_01"
size = [1280.0, 720.0]
matrix = [[900.0, 0.0, 650.5], [0.0, 905.0, 351.25], [0.0, 0.0, 1.0]]
distortions = [-0.3, 0.1, 0.001, -0.002]
rotation = [0.0, 0.0, 0.0]
fisheye = false
[metadata]
adjusted = false
"""
NERFSTUDIO = {"camera_model": "OPENCV", "fl_x": 900, "fl_y": 905, "cx": 650.5, "cy": 351.25, "w": WIDTH, "h": HEIGHT, "k1": -0.3, "k2": 0.1,
              "p1": 0.001, "p2": -0.002}  # fmt: skip

ALIASES = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20)) + "K: *a19\n"
"""Ten to the nineteenth numbers in a short text."""


def write(folder, content, name="camera.txt"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode())
    return file


@pytest.mark.parametrize(
    ("content", "name", "distortion", "size"),
    [
        ({"K": K}, None, [], None),
        ({"K": K, "distortion": FIVE[:4]}, None, FIVE[:4], None),
        ({"K": K, "distortion": [*FIVE[:4], 0]}, None, FIVE[:4], None),
        ({"K": K, "distortion": FIVE}, None, FIVE, None),
        ({"K": K, "distortion": [EIGHT]}, None, EIGHT, None),
        ({"K": K, "distortion": [*EIGHT, 0.1, 0.2, 0.3, 0.4]}, None, [*EIGHT, 0.1, 0.2, 0.3, 0.4], None),
        ({"K": K, "dist": [[*EIGHT, 0, 0, 0, 0, 0, 0]], "width": WIDTH, "height": HEIGHT}, None, EIGHT, (WIDTH, HEIGHT)),
        (b"\xef\xbb\xbf" + json.dumps({"K": K}).encode(), None, [], None),
        (json.dumps({"K": K}).encode("utf-16"), None, [], None),
        (OPENCV_YAML, None, FIVE, (WIDTH, HEIGHT)),
        (OPENCV_XML, None, FIVE, (WIDTH, HEIGHT)),
        (ROS, None, FIVE, (WIDTH, HEIGHT)),
        (KALIBR, "cam0", FIVE[:4], (WIDTH, HEIGHT)),
        (COLMAP, "1", FIVE[:4], (WIDTH, HEIGHT)),
        (COLMAP, "2", EIGHT, (WIDTH, HEIGHT)),
        (NERFSTUDIO, None, FIVE[:4], (WIDTH, HEIGHT)),
        ({"intrinsic_matrix": [900, 0, 0, 0, 905, 0, 650.5, 351.25, 1], "width": WIDTH, "height": HEIGHT}, None, [], (WIDTH, HEIGHT)),
        ({"cameras": {"left": {"K": K, "dist": [FIVE], "image_size": [WIDTH, HEIGHT], "model": "standard"}}}, "left", FIVE,
         (WIDTH, HEIGHT)),
    ],
)  # fmt: skip
def test_the_same_camera_from_every_program(tmp_path, content, name, distortion, size):
    camera = load_camera(write(tmp_path, content), name)
    assert camera.intrinsics == CAMERA
    np.testing.assert_array_equal(camera.distortion, [*distortion, *[0] * (12 - len(distortion))])
    assert camera.size_wh == size
    assert camera.for_picture(WIDTH, HEIGHT) == (CAMERA, [])


def test_toml_and_npz_are_known_by_their_names(tmp_path):
    toml = load_camera(write(tmp_path, POSE2SIM, "Calib.toml"))
    np.savez(tmp_path / "calib.npz", mtx=K, dist=[FIVE], rvecs=np.zeros((20, 3)))
    npz = load_camera(tmp_path / "calib.npz")
    assert toml.intrinsics == npz.intrinsics == CAMERA
    assert (toml.size_wh, npz.size_wh) == ((WIDTH, HEIGHT), None)
    np.testing.assert_array_equal(npz.distortion[:5], FIVE)


@pytest.mark.parametrize("suffix", ["yaml", "xml", "json"])
def test_what_opencv_itself_writes(tmp_path, suffix):
    cv2 = import_or_skip("cv2")
    storage = cv2.FileStorage(str(tmp_path / f"camera.{suffix}"), cv2.FILE_STORAGE_WRITE)
    storage.write("camera_matrix", np.array(K))
    storage.write("dist_coeff", np.array([FIVE]))
    storage.write("image_width", WIDTH)
    storage.write("image_height", HEIGHT)
    storage.release()
    camera = load_camera(tmp_path / f"camera.{suffix}")
    assert camera.intrinsics == CAMERA
    np.testing.assert_allclose(camera.distortion[:5], FIVE)
    assert camera.size_wh == (WIDTH, HEIGHT)


def test_colmaps_half_pixel_is_taken_off(tmp_path):
    assert load_camera(write(tmp_path, COLMAP), "3").intrinsics == Intrinsics(900.0, 900.0, 639.5, 359.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"K": np.transpose(K).tolist()}, "K is transposed, the principal point (650.5, 351.25)"),
        ({"K": [[0.7, 0, 0.5], [0, 1.25, 0.5], [0, 0, 1]]}, "in fractions of the picture"),
        ({"K": [[35.0, 0, 640], [0, 35.0, 360], [0, 0, 1]]}, "not millimetres"),
        ({"K": [[1e6, 0, 640], [0, 1e6, 360], [0, 0, 1]]}, "field of view of 0.1 degrees"),
        ({"K": [[900, 0, 640], [0, 90, 360], [0, 0, 1]]}, "a focal length of 90 px"),
        ({"K": [[900, 0, 640], [0, 300, 360], [0, 0, 1]]}, "the pixels are square"),
        ({"K": [[-900, 0, 640], [0, 900, 360], [0, 0, 1]]}, "focal lengths are -900 and 900, expected positive"),
        ({"K": [[900, 3, 640], [0, 900, 360], [0, 0, 1]]}, "skew of 3 px"),
        ('{"K": [[900, 0, NaN], [0, 900, 360], [0, 0, 1]]}', "finite numbers"),
        ({"K": [[900, 0], [0, 900]]}, "K is of shape (2, 2)"),
        ({"K": [[900, 0, 640], [0, 900, 360], [0, 0, 2]]}, "expected 3x3"),
        ({"K": [[900, 0, 640, 0], [0, 900, 360, 0], [0, 0, 1, 0]]}, "K is of shape (3, 4)"),
        ({"K": "wide"}, "K should be numbers, got 'wide'"),
        ({"K": [[900, 0, 640], [0, 900], [0, 0, 1]]}, "K should be numbers"),
        ({"fx": 900, "fy": 900}, "fx, fy, cx and cy should be numbers"),
        ({"K": K, "distortion": [0.1, 0.2]}, "distortion has 2 coefficients, expected 4, 5, 8 or 12"),
        ({"K": K, "distortion": [0.1] * 14}, "tilted sensor"),
        ('{"K": [[900,0,640],[0,900,360],[0,0,1]], "distortion": [NaN, 0, 0, 0]}', "finite numbers"),
        ({"K": K, "width": 1280}, "the picture's width and height should be numbers"),
        ({"K": K, "size": [1280, -720]}, "the picture's size is [1280.0, -720.0]"),
        ({"K": [[900, 0, 1500], [0, 900, 360], [0, 0, 1]]}, "(1500, 360) lies outside the 1280 x 720 picture"),
        ({"K": [[900, 0, -5], [0, 900, 360], [0, 0, 1]]}, "lies outside"),
        ({"K": [[1350, 0, 959.5], [0, 1350, 539.5], [0, 0, 1]]}, "the middle of a picture of about 1920 x 1080, this one is 1280 x 720"),
        ({"K": [[450, 0, 319.5], [0, 450, 179.5], [0, 0, 1]]}, "about 640 x 360"),
        ({"K": [[900, 0, 359.5], [0, 900, 639.5], [0, 0, 1]]}, "about 720 x 1280"),
        ({"K": [[900, 0, 360], [0, 900, 640], [0, 0, 1]], "width": 720, "height": 1280}, "has another shape"),
        ({"K": [[900, 0, 640], [0, 900, 480], [0, 0, 1]], "width": 1280, "height": 960}, "has another shape"),
        (KALIBR.replace("radtan", "equidistant"), "the lens model is 'equidistant'"),
        (KALIBR.replace("camera_model: pinhole", "camera_model: omni"), "the lens model is 'omni'"),
        ("4 OPENCV_FISHEYE 1280 720 900 905 651 351.75 -0.3 0.1 0.001 -0.002", "the lens model is 'OPENCV_FISHEYE'"),
        ("1 OPENCV 1280 720 900 905 651 351.75", "camera 1 is OPENCV with 4 parameters, expected 8"),
        (OPENCV_YAML.replace("fisheye_model: 0", "fisheye_model: 1"), "the lens model is 'fisheye'"),
        ({**ROS, "distortion_model": "equidistant"}, "the lens model is 'equidistant'"),
        ({"focal": 900}, "holds no camera matrix"),
        ("", "holds no camera matrix"),
        ("[1, 2", "cannot read intrinsics"),
        ("a: [1, 2", "cannot read intrinsics"),
        ("K: !!python/object/apply:os.system ['true']", "cannot read intrinsics"),
        ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "it declares entities"),
        (b"\x04\x00\x00\x00\x00\x00\x00\x00", "binary file"),
        (b"\xff\xd8\xff\xe0 a picture", "are no text"),
        (ALIASES, "K should be numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_the_camera_is_refused_in_a_line(tmp_path, content, message):
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        load_camera(write(tmp_path, content), "cam0" if isinstance(content, str) and "cam1:" in content else None).for_picture(
            WIDTH, HEIGHT
        )
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)


def test_one_of_several_cameras_is_chosen_by_its_name(tmp_path):
    file = write(tmp_path, KALIBR)
    with pytest.raises(UsageError, match=r"holds the cameras cam0, cam1; choose one with --set camera\.name=cam0"):
        load_camera(file)
    with pytest.raises(UsageError, match=r"camera\.name is 'cam7', but .* holds cam0, cam1"):
        load_camera(file, "cam7")
    with pytest.raises(UsageError, match="one camera without a name"):
        load_camera(write(tmp_path, {"K": K}, "one.json"), "cam0")
    with pytest.raises(InputError, match=r"\(cam1\): the lens model is 'equidistant'"):
        load_camera(file, "cam1")


def test_k_of_a_known_size_is_scaled_and_that_is_said(tmp_path):
    """The centre of the top-left pixel is at 0: the picture's edge, -0.5, stays where it is."""
    file = write(tmp_path, {"K": K, "image_width": WIDTH, "image_height": HEIGHT})
    camera, (odd,) = load_camera(file).for_picture(640, 360)
    assert camera == Intrinsics(450.0, 452.5, (650.5 + 0.5) / 2 - 0.5, (351.25 + 0.5) / 2 - 0.5)
    assert "is for a 1280 x 720 picture; K is scaled to 640 x 360" in odd


def test_k_of_oblong_pixels_becomes_one_of_square_pixels(tmp_path):
    pal = {"K": [[1000, 0, 360], [0, 1000 * 1024 / 720, 288], [0, 0, 1]], "size": [720, 576]}
    camera, _ = load_camera(write(tmp_path, pal)).for_picture(1024, 576)
    assert camera.fx == pytest.approx(camera.fy)


def test_a_principal_point_off_the_middle_is_taken_where_the_size_says_that_it_is_this_picture(tmp_path):
    cropped = {"K": [[900, 0, 1100], [0, 900, 620], [0, 0, 1]], "width": WIDTH, "height": HEIGHT}
    assert load_camera(write(tmp_path, cropped)).for_picture(WIDTH, HEIGHT)[1] == []


@pytest.mark.parametrize("camera", [CameraSettings(focal_px=35), CameraSettings(fov_deg=179)])
def test_a_focal_length_that_no_lens_has_is_refused(camera):
    class Nothing:
        info = SourceInfo("clip", WIDTH, HEIGHT, 25.0)

    with pytest.raises(UsageError, match=r"field of view of 17\d\.\d degrees; expected 128 to 64000 px, not millimetres"):
        with_camera(Nothing(), Settings(camera=camera))  # type: ignore[arg-type]


def test_a_cameras_number_is_a_name():
    assert load_settings(None, ["camera.intrinsics=cameras.txt", "camera.name=2"]).camera.name == "2"


def test_a_name_without_a_file_is_refused():
    with pytest.raises(ValueError, match="no camera.intrinsics were given"):
        CameraSettings(name="cam0")


def test_points_agree_with_opencv_for_every_number_of_coefficients():
    cv2 = import_or_skip("cv2")
    points = np.random.default_rng(0).uniform([50, 50], [WIDTH - 50, HEIGHT - 50], (50, 2))
    rays = np.concatenate([(points - [CAMERA.cx, CAMERA.cy]) / [CAMERA.fx, CAMERA.fy], np.ones((50, 1))], 1)
    for coefficients in (FIVE[:4], FIVE, EIGHT, [*EIGHT, 0.01, -0.02, 0.015, 0.005]):
        theirs = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), CAMERA.matrix, np.array(coefficients))[0][:, 0]
        ours = distort_points(points, CAMERA, np.array(coefficients))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        np.testing.assert_allclose(undistort_points(ours, CAMERA, np.array(coefficients)), points, atol=1e-6)
