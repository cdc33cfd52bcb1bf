"""docs/api.md is what the docstrings say, and these say all that the page needs."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from places import ROOT

import mchmr_stream

sys.path.insert(0, str(ROOT / "tools"))
from api_page import GROUPS, PAGE, attributes, page


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in mchmr_stream.__all__:
        thing = getattr(mchmr_stream, name)
        if not inspect.isclass(thing):
            yield name, thing
            continue
        for member_name, member in vars(thing).items():
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function) and not member_name.startswith("_"):
                yield f"{name}.{member_name}", function


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_public_name_is_on_the_page() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(mchmr_stream.__all__)


@pytest.mark.parametrize("name", mchmr_stream.__all__)
def test_every_public_class_and_attribute_has_a_docstring(name: str) -> None:
    thing = getattr(mchmr_stream, name)
    assert thing.__doc__
    assert thing.__doc__.partition("\n")[0].endswith((".", "``.")), "one sentence first"
    if inspect.isclass(thing):
        assert [attribute for attribute, _, text in attributes(thing) if not text] == []


@pytest.mark.parametrize(("name", "function"), [pytest.param(*each, id=each[0]) for each in public_callables()])
def test_every_public_function_documents_its_arguments(name: str, function: Callable[..., Any]) -> None:
    doc = inspect.cleandoc(function.__doc__ or "")
    assert doc
    arguments = [argument for argument in inspect.signature(function).parameters if argument != "self"]
    section = re.search(r"^Args:\n((?:    .*\n?)+)", doc, re.MULTILINE)
    assert re.findall(r"^    (\w+): ", section[1] if section else "", re.MULTILINE) == arguments
