"""Settings: what is accepted, what is refused and in which words, and that printed settings read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import ROOT

from mchmr_stream.cli.print_config import settings_yaml
from mchmr_stream.config import Settings, load_settings
from mchmr_stream.errors import UsageError

CONFIGS = ROOT / "configs"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["source.start_s=1.5", "source.every=3", "tracker.max_people=2", "output.overlay=false"],
        ["crops.layout=custom", "crops.custom=[[0, 0, 1.2], [0.1, 0, 1.5]]", "crops.views=2"],
        ['camera.intrinsics="a folder: with/odd #name.json"', "network.weights='yes'", "runtime.device=cuda:1"],
    ],
)
def test_printed_settings_read_back_the_same(tmp_path: Path, overrides: list[str]) -> None:
    settings = load_settings(None, overrides)
    assert load_settings(write(tmp_path / "s.yaml", settings_yaml(settings))) == settings


def test_the_committed_defaults_are_the_defaults() -> None:
    committed = (CONFIGS / "default.yaml").read_text()
    assert committed == settings_yaml(Settings()), "run: mchmr config > configs/default.yaml"


@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_variants_load_and_differ_from_the_defaults(name: str) -> None:
    assert load_settings(CONFIGS / f"{name}.yaml") != Settings()


def test_every_setting_is_explained_in_print() -> None:
    text = settings_yaml(Settings())
    flat = " ".join(line.strip().removeprefix("#").strip() for line in text.splitlines())
    for section_name, section in Settings.model_fields.items():
        assert f"\n{section_name}:\n" in text
        for name, field in section.annotation.model_fields.items():  # type: ignore[union-attr]
            assert field.description, f"{section_name}.{name} has no explanation"
            assert f"\n  {name}: " in text
            assert " ".join(field.description.split()) in flat


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", "crops: {views: 3, upright: false}")
    settings = load_settings(file, ["crops.views=1"])
    assert settings.crops.views == 1
    assert settings.crops.upright is False


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("crops.view=3", "did you mean crops.views?"),
        ("crop.views=3", "did you mean crops?"),
        ("smoother.max_people=3", "did you mean tracker.max_people?"),
        ("runtime.qqqq=3", "known here: device, threads, ahead"),
        ("crops.views=0", "crops.views: got 0"),
        ("crops.views=many", "crops.views: got 'many'"),
        ("detector.kind=yolo", "'movenet', 'mediapipe' or 'boxes'"),
        ("crops.views", "expected section.name=value"),
        ("views=3", "expected section.name=value"),
        ("crops.views=[1", "cannot read '[1'"),
    ],
)
def test_wrong_settings_are_refused_with_a_hint(override: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(None, [override])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_cameras_are_refused() -> None:
    with pytest.raises(UsageError, match="focal_px and fov_deg were given"):
        load_settings(None, ["camera.focal_px=1000", "camera.fov_deg=60"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [("- a\n- b\n", "hold a list"), ("a: [", "expected a YAML file"), ("crops:\n  viewz: 2\n", "did you mean crops.views?"), ("", None)],
)
def test_settings_files(tmp_path: Path, content: str, expected: str | None) -> None:
    file = write(tmp_path / "s.yaml", content)
    if expected is None:
        assert load_settings(file) == Settings()
        return
    with pytest.raises(UsageError) as caught:
        load_settings(file)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.yaml"):
        load_settings(tmp_path / "nothing.yaml")


def test_a_section_with_everything_commented_out_is_the_default(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("source:\n  # every: 2\nsmoother:\n  strength: 2\n")
    assert load_settings(file) == load_settings(None, ["smoother.strength=2"])
