"""What is installed and passed on: wheel, source archive, what make offers, and what documents say to install."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from components import import_or_skip
from places import ROOT

from mchmr_stream.cli import doctor
from mchmr_stream.config import load_settings
from mchmr_stream.files.shipped_configs import shipped_ablations, shipped_configs

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Names in the wheel and in the source archive, built from a copy that also holds what a used checkout does."""
    import_or_skip("hatchling")
    folder = tmp_path_factory.mktemp("packaging")
    checkout = folder / "checkout"
    heavy = shutil.ignore_patterns(
        "__pycache__", "*.safetensors", "*.task", "*.part", ".git", ".venv", ".*_cache", "node_modules", "images"
    )
    shutil.copytree(ROOT, checkout, ignore=heavy)
    (checkout / "mchmr_stream" / "assets" / "mchmr_default.safetensors").touch()
    for name in ("out/clip.npz", "recordings/a/mchmr_stream/x.py", "data/README.md", ".venv/docs/x.md", "runs/tests/x.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    built = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(built, cwd=checkout, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel, tarfile.open(next(folder.glob("*.tar.gz"))) as source:
        return wheel.namelist(), [name.partition("/")[2] for name in source.getnames()]


def test_the_wheel_holds_the_package_its_types_and_its_settings_and_nothing_else(archives) -> None:
    wheel, _ = archives
    assert {name.partition("/")[0].partition("-")[0] for name in wheel} == {"mchmr_stream"}
    assert {"mchmr_stream/py.typed", "mchmr_stream/assets/mchmr_default.safetensors", "mchmr_stream/web/static/index.html"} <= set(wheel)
    assert {f"mchmr_stream/configs/{name}.yaml" for name in shipped_configs()} <= set(wheel)
    assert not any(name.endswith(".pyc") for name in wheel)


def test_the_source_archive_holds_what_tests_and_pages_need_and_nothing_that_was_made_in_the_checkout(archives) -> None:
    _, source = archives
    folders = {name.partition("/")[0] for name in source if "/" in name}
    assert folders == {"mchmr_stream", "configs", "triton_models", "docs", "examples", "tests", "benchmarks", "tools"}
    assert {"Makefile", "pyproject.toml", "constraints.txt", "CONTRIBUTING.md", "LICENSE", "THIRD_PARTY.md"} <= set(source)


def test_git_ignores_nothing_of_the_package() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    ignored = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ignored.stdout == ""


def test_make_help_names_every_target_that_is_explained() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    explained = re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    printed = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert explained
    assert [line.split()[1] for line in printed.splitlines()] == explained


def test_extras_that_documents_name_are_there_and_are_installed_from_the_checkout() -> None:
    named = [(page.name, one) for page in PAGES for one in re.findall(r"(\S+)\[([a-z,]+)\]'", page.read_text())]
    assert ("README.md", ("'.", "triton")) in named
    for page, (where, extras) in named:
        assert where == "'.", f"{page} installs {where}[{extras}], which no index has"
        assert set(extras.split(",")) <= set(EXTRAS), f"{page} names the extra {extras}"


def test_doctor_knows_every_package_that_can_be_installed_with_this_one() -> None:
    bare = lambda requirement: re.split(r"[><=]", requirement)[0]
    assert {bare(one) for one in PROJECT["dependencies"]} == set(doctor.CORE_PACKAGES)
    optional = {bare(one) for extra, packages in EXTRAS.items() if extra != "dev" for one in packages}
    assert optional == set(doctor.OPTIONAL_PACKAGES)
    installed = packages_distributions()
    for requirement, (module, _) in doctor.OPTIONAL_PACKAGES.items():
        top = module.partition(".")[0]
        if top in installed:
            assert requirement.partition("[")[0] in {name.lower() for name in installed[top]}


def test_settings_that_ship_are_found_by_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings("fast") == load_settings(ROOT / "configs" / "fast.yaml") != load_settings()
    assert [path.stem for path in shipped_ablations()] == sorted(path.stem for path in (ROOT / "configs" / "ablations").glob("*.yaml"))
    (tmp_path / "fast").write_text("crops: {views: 7}")
    assert load_settings("fast").crops.views == 7, "a file of yours comes first"
