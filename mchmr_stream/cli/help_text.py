"""Layout of help pages, with examples at their ends."""

from __future__ import annotations

import argparse

_HEAD = "examples:"


class HelpFormatter(argparse.HelpFormatter):
    """Formatter that wraps text but keeps the lines of examples, so that they can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith(_HEAD):
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}\n" for line in text.splitlines())


def examples(*commands: str) -> str:
    """Format the epilog of a command."""
    return "\n  ".join([_HEAD, *commands])
