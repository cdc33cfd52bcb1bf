"""Write docs/api.md from the docstrings of the public names.

Usage: python tools/api_page.py

The page is Markdown in the repository, so that it can be read where the code is. tests/docs/test_api_page.py compares it with the
docstrings.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mchmr_stream

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"

GROUPS = {
    "Functions": ("stream", "process_video", "load", "export_motion", "load_settings"),
    "Runs": ("Settings", "Pipeline", "VideoResult", "LiveRun", "SourceStatus"),
    "Results": ("Scene", "Frame", "Bodies", "Intrinsics", "Moment", "Motion", "Track"),
    "Components of your own": (
        "Detector", "Detections", "MeshEstimator", "SynchronousEstimator", "CropBatch", "CropEstimates", "Tracks",
        "Components", "Source", "SourceInfo", "LiveSink",
    ),
    "Errors": ("MchmrError", "UsageError", "InputError", "TruncatedInput", "MissingPart"),
}  # fmt: skip
"""All public names, in the order in which a new reader needs them."""

_HEAD = """# Python API

Written by `python tools/api_page.py` from the docstrings; do not edit. Everything is imported from `mchmr_stream`; names of submodules may
change. [examples/](../examples/README.md) uses it, [glossary.md](glossary.md) explains the terms.

`Float`, `Int` and `Bool` are numpy arrays of float32, int64 and bool. In shapes, n is the number of people in a frame, V the number of
crops per person, F the number of frames. Rotations are 3x3 matrices. Units are in the names:
`_m` metres, `_px` pixels, `_s` seconds, `_rad` radians; `_xyxy` is left, top, right, bottom.
"""
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises):$")
_ENTRY = re.compile(r"^(\w+): (.*)")


def page() -> str:
    """Return the full page."""
    lines = [_HEAD]
    for title, names in GROUPS.items():
        lines.append(f"- {title}: " + ", ".join(f"[{name}](#{name.lower()})" for name in names))
    for title, names in GROUPS.items():
        lines.append(f"\n## {title}")
        for name in names:
            lines.append(f"\n### {name}\n")
            thing = getattr(mchmr_stream, name)
            lines += _class(name, thing) if inspect.isclass(thing) else _callable(name, thing)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines).strip()) + "\n"


def _class(name: str, thing: type) -> Iterator[str]:
    start = vars(thing).get("__init__")
    has_own_start = inspect.isfunction(start) and bool(start.__doc__)
    if has_own_start:
        yield _code(f"{name}{_signature(thing)}".removesuffix(" -> None"))
    if issubclass(thing, Exception):
        yield f"Base: `{thing.__mro__[1].__name__}`.\n"
    yield from _prose(inspect.cleandoc(thing.__doc__ or ""))
    if has_own_start:
        yield from _prose(inspect.cleandoc(start.__doc__))
    yield from _table(thing)
    for member_name, member in vars(thing).items():
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function) and not member_name.startswith("_"):
            yield from _callable(f"{name}.{member_name}", function)


def _callable(name: str, function: Callable[..., Any]) -> Iterator[str]:
    yield _code(f"{name}{_signature(function)}")
    yield from _prose(inspect.cleandoc(function.__doc__ or ""))


def _signature(function: Any) -> str:
    """One line, or one line per argument where that is long."""
    signature = inspect.signature(function)
    arguments = [each for name, each in signature.parameters.items() if name != "self"]
    plain = str(signature.replace(parameters=arguments)).replace("'", "")
    if len(plain) < 90:
        return plain
    listed, after, result = [], None, plain.rpartition(" -> ")
    for each in arguments:
        if each.kind is each.KEYWORD_ONLY and after is not each.KEYWORD_ONLY:
            listed.append("    *,")
        listed.append(f"    {str(each).replace(chr(39), '')},")
        after = each.kind
    return "\n".join(["(", *listed, ")"]) + (f" -> {result[2]}" if result[1] else "")


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _prose(doc: str) -> Iterator[str]:
    """Convert a Google docstring to Markdown: each section becomes a list."""
    section, entries = None, []
    for line in doc.splitlines():
        found = _SECTION.match(line)
        if found:
            section = found[1]
            entries.append(f"\n{section}:\n")
        elif section is None:
            entries.append(line)
        elif not line.strip():
            continue
        elif section in ("Args", "Raises") and (entry := _ENTRY.match(line[4:])):
            entries.append(f"- `{entry[1]}`: {entry[2]}")
        elif section in ("Returns", "Yields") and entries[-1] == f"\n{section}:\n":
            entries.append(f"- {line.strip()}")
        else:
            entries.append(f"  {line.strip()}")
    yield "\n".join(entries) + "\n"


def _table(thing: type) -> Iterator[str]:
    """Fields, class attributes and properties with their docstrings."""
    rows = [(name, kind.replace("|", "\\|"), text) for name, kind, text in attributes(thing)]
    if rows:
        yield "| attribute | type | what |\n|---|---|---|"
        yield from (f"| `{name}` | `{kind}` | {text} |" for name, kind, text in rows)
        yield ""


def attributes(thing: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and docstring of each public attribute that the class itself declares."""
    body = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    assert isinstance(body, ast.ClassDef)
    for node, after in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(each) == "property" for each in node.decorator_list):
            name, kind, text = node.name, ast.unparse(node.returns or ast.Constant(None)), ast.get_docstring(node) or ""
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            name = ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
            kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else type(getattr(thing, name)).__name__
            text = str(after.value.value) if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        else:
            continue
        sections = getattr(thing, "model_fields", {})  # in Settings the descriptions are the docstrings of the sections' classes
        text = text or (sections[name].annotation.__doc__ if name in sections else "")
        if not name.startswith("_"):
            yield name, kind, " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
