"""Benchmarks: ratios are those within a round, and what a script writes is what the page says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT

from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.network.encoders import make_encoder

sys.path.insert(0, str(ROOT / "benchmarks"))


def test_views_are_compared_within_each_round():
    import views

    rounds = [{"1": 20.0, "5": 10.0}, {"1": 9.0, "5": 3.0}, {"1": 100.0, "5": 40.0}]
    errors = {1: {"MPJPE mm": 99.0, "PA-MPJPE mm": 66.0}, 5: {"MPJPE mm": 90.0, "PA-MPJPE mm": 60.0}}
    rows = views.table(rounds, errors).rows
    assert rows[0] == ["1", "20.0", "2.50 (2.00 to 3.00)", "99.0", "66.0", "1.100"]
    assert rows[1] == ["5", "10.0", "1.00 (1.00 to 1.00)", "90.0", "60.0", "1.000"]
    assert views.table(rounds, {}).rows[0][3:] == ["", "", ""]


def test_the_line_through_points_on_a_line_is_that_line():
    import crowd

    slope, start, r2 = crowd.line({1: 13.0, 2: 16.0, 5: 25.0})
    assert (slope, start, r2) == (pytest.approx(3), pytest.approx(10), pytest.approx(1))
    assert crowd.line({1: 13.0, 2: 25.0, 3: 12.0, 4: 26.0})[2] < 0.6


def test_sides_take_turns_and_every_second_round_runs_backwards(capsys):
    import measuring

    order = []

    def side(name):
        return lambda: order.append(name) or float(len(order))

    rounds = measuring.in_turns({"a": side("a"), "b": side("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert rounds == [{"a": 1.0, "b": 2.0}, {"a": 4.0, "b": 3.0}, {"a": 5.0, "b": 6.0}]
    ratio = measuring.Ratio.of(rounds, "a", "b")
    assert ratio.median == pytest.approx(5 / 6)


def test_a_ratio_fell_only_where_it_fell_by_more_than_both_runs_spread():
    import quick
    from measuring import Ratio

    before = {"median": 1.0, "rounds": [0.96, 1.0, 1.04]}
    for rounds, fell, word in (
        ([0.95, 0.95, 0.96], False, "as before"),  # within the earlier spread
        ([0.8, 0.81, 0.8], True, "FELL"),
        ([0.6, 0.8, 1.0], False, "as before"),  # too noisy to say
        ([1.3, 1.3, 1.31], False, "rose"),
    ):
        said, worse = quick.verdict(Ratio(rounds), before)
        assert (worse, said.startswith(word)) == (fell, True), said


def test_quick_ends_with_1_where_a_ratio_fell(monkeypatch, tmp_path, capsys):
    import quick
    from measuring import Ratio

    out = tmp_path / "quick.json"
    monkeypatch.setattr(sys, "argv", ["quick.py", "--out", str(out)])
    codes = []
    for value in (1.0, 1.01, 0.7):
        monkeypatch.setattr(quick, "measure", lambda *_, value=value: {"a / b": Ratio([value, value, value])})
        codes.append(quick.main())
    assert codes == [0, 0, 1]
    assert "a / b: 0.70 (0.70 to 0.70), FELL: -30%" in capsys.readouterr().out


def test_the_performance_page_is_what_the_results_say(tmp_path):
    sys.path.insert(0, str(ROOT / "tools"))
    import performance_page

    assert performance_page.PAGE.read_text() == performance_page.page()
    changed = performance_page.RESULTS / "quick.json"
    (tmp_path / changed.name).write_text(changed.read_text().replace('"rows": [\n    [\n      "', '"rows": [\n    [\n      "another '))
    assert "| another " in performance_page.page(tmp_path)


def test_every_script_says_what_it_is_for_and_what_is_not_there():
    folder = ROOT / "benchmarks"
    done = subprocess.run(
        [sys.executable, folder / "all.py", "--validation", "no/such/folder"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "all.py: no/such/folder is not there"
    done = subprocess.run([sys.executable, folder / "vs_mediapipe.py", "no/such/folder"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("is not there; expected a folder of real views as for `mchmr evaluate real3d`")


@pytest.mark.parametrize("map_px", [64, 32, 16])
def test_a_view_out_of_the_shared_picture_lies_where_its_own_crop_lies(map_px):
    import sharing

    wide, step = layout("wide", 5), 256 // map_px
    y, x = np.mgrid[:400, :600] / 97
    rgb = np.stack([127 + 100 * np.sin(x + y / 2), 127 + 100 * np.cos(y), 40 * x], -1).astype(np.uint8)
    picture = sharing.SharedPicture(wide, 1.25, map_px)
    base_px, roll_rad, camera = np.array([[20.0, -10, 150]], np.float32), np.array([0.3], np.float32), Intrinsics.assumed(600, 400)
    own = Cropper(wide).cut(rgb, base_px, roll_rad, camera)[0][0, :, :, ::step, ::step].float()
    whole = Cropper(picture.layout).cut(rgb, base_px, roll_rad, camera)[0][0, 0, :, ::step, ::step].float()
    out_of_whole = torch.einsum("vrh,chw,vkw->vcrk", picture.weights(1), whole, picture.weights(0))
    assert (out_of_whole - own).abs().max() < 2
    assert (own[1:] - own[:1]).abs().amax((1, 2, 3)).min() > 10, "the views differ by far more than that"


def test_one_view_out_of_its_shared_picture_is_the_plain_encoder():
    import sharing

    encoder, alone = make_encoder("blazepose_lite").eval(), layout("wide", 1)
    picture = sharing.SharedPicture(alone, 1.2, 32)
    assert picture.layout.crop_hw == (256, 256)
    crops = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)).repeat_interleave(32, 2).repeat_interleave(32, 3)
    with torch.inference_mode():
        plain, shared = encoder(crops), sharing.SharedViews(encoder, picture, 32)(crops)
    for ours, theirs in zip(shared, plain, strict=True):
        torch.testing.assert_close(ours[:, 0], theirs, rtol=1e-3, atol=1e-3)
