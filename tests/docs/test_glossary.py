"""docs/glossary.md names only options, columns and classes that there are."""

from __future__ import annotations

import re

from places import ROOT

import mchmr_stream
from mchmr_stream.config import Settings
from mchmr_stream.motion.motion import COLUMNS, FRAME_COLUMNS, HEADER, WORLD_COLUMNS, WORLD_HEADER

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith("| term")]


def test_options_exist() -> None:
    settings = Settings().model_dump()
    named = [name.split(".") for name in re.findall(r"`(\w+\.\w+)`", GLOSSARY) if name.split(".")[0] in settings]
    assert len(named) > 30
    assert [f"{section}.{name}" for section, name in named if name not in settings[section]] == []


def test_classes_and_their_attributes_are_public() -> None:
    named = re.findall(r"`([A-Z]\w+)(?:\.(\w+))?`", GLOSSARY)
    api = (ROOT / "docs" / "api.md").read_text()
    for name, attribute in named:
        if name == "K":
            continue
        assert name in mchmr_stream.__all__
        own = api[api.index(f"\n### {name}\n") :].split("\n### ")[1]
        assert not attribute or f"`{attribute}`" in own or f"{name}.{attribute}(" in own, f"{name}.{attribute}"


def test_plain_names_are_columns_or_attributes() -> None:
    columns = {*COLUMNS, *FRAME_COLUMNS, *HEADER, *WORLD_COLUMNS, *WORLD_HEADER, "skating_mm_per_contact_frame"}
    api = (ROOT / "docs" / "api.md").read_text()
    named = {name for *_, where in ROWS for name in re.findall(r"`([a-z]\w+)`", where)}
    assert {name for name in named - columns if f"| `{name}` |" not in api} == set()


def test_every_term_is_explained_once() -> None:
    terms = [row[0].strip() for row in ROWS]
    assert len(terms) == len(set(terms)) > 60
    assert all(len(row) == 3 and row[1].strip().endswith(".") for row in ROWS), "a sentence each"
