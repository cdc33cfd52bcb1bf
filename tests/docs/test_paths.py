"""Paths and command lines in README, CONTRIBUTING and docs/ name what exists."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
from places import ROOT

import mchmr_stream
from mchmr_stream.cli import build_parser

PACKAGE = ROOT / "mchmr_stream"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP_LEVEL = ("benchmarks", "configs", "docs", "examples", "mchmr_stream", "tests", "tools", "triton_models")
ROOMS = tuple(sorted(folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()))
_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join([*TOP_LEVEL, *ROOMS])})/[\w./-]*\w")
EVERYWHERE = {"-v", "-q", "--debug", "--quiet", "--verbose", "-h", "--help"}
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def command_lines(text: str) -> list[str]:
    """Each `mchmr ...` in code, in backticks or a block; a line that ends with a backslash goes on."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + [span.replace("\n", " ") for span in spans]
    found = [re.search(r"(?:^ *|\$\(|[A-Z_]+=\S+ )mchmr ([a-z][a-z-]*(?![=\w]).*)", line.partition(" #")[0]) for line in lines]
    return [each[1] for each in found if each]


def complaints(line: str) -> list[str]:
    """Commands and options of the line that the parser does not know."""
    words = shlex.split(re.split(r"[|>&;)]", line.replace("\\|", "/"))[0].replace("'", "").replace('"', ""))
    known, parser = parsers(build_parser()), build_parser()
    if words[0] not in known:
        return [words[0]]
    while words and words[0] in (below := parsers(parser)):
        parser = below[words.pop(0)]
    options = {name for action in parser._actions for name in action.option_strings} | {
        "-v",
        "-q",
        "--debug",
        "--quiet",
        "--verbose",
        "-h",
        "--help",
    }
    used = [word.partition("=")[0].rstrip(".,;:") for word in words if re.match(r"--?[a-z]", word)]
    return [option for option in used if option not in options]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page: Path) -> None:
    text = page.read_text()
    named = {path for path in _PATH.findall(text) if re.search(r"\.(py|md|yaml|json|npz|sh|safetensors|toml)$", path)}
    assert sorted(path for path in named if not ((ROOT / path).exists() or (PACKAGE / path).exists())) == []
    assert sorted(link for link in _LINK.findall(text) if not (page.parent / link).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    assert {line: wrong for line in command_lines(page.read_text()) if (wrong := complaints(line))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_imported_names_exist(page: Path) -> None:
    """The modules are read, not imported: those of the element need GStreamer."""
    found = re.findall(r"from (mchmr_stream(?:\.\w+)*) import ([\w, ]+)", page.read_text())
    named = [(module, name.partition(" as ")[0].strip()) for module, names in found for name in names.split(", ")]
    assert [each for each in named if not defines(*each)] == []


def defines(module: str, name: str) -> bool:
    path = ROOT / module.replace(".", "/")
    if module == "mchmr_stream" and name in mchmr_stream.__all__:
        return True
    if path.is_dir() and ((path / name).is_dir() or (path / f"{name}.py").is_file()):
        return True
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    pattern = rf"^(?:def |class |async def |from .* import .*\b)?{name}\b"
    return file.is_file() and re.search(pattern, file.read_text(), re.MULTILINE) is not None


def test_a_wrong_option_would_be_found() -> None:
    assert complaints("video clip.mp4 --no-such-option 3") == ["--no-such-option"]
    assert complaints("no-such-command") == ["no-such-command"]
    assert not defines("mchmr_stream.body.body_model", "no_such_name")
    assert complaints("evaluate real3d --data DIR") == []
    assert len(command_lines((ROOT / "README.md").read_text())) > 20
