"""Help pages: how they are laid out, and the examples at their ends."""

from __future__ import annotations

import argparse

_HEAD = "examples:"


class HelpFormatter(argparse.HelpFormatter):
    """Text is wrapped as ever, but examples keep their lines: they are there to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith(_HEAD):
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}\n" for line in text.splitlines())


def examples(*commands: str) -> str:
    """What stands below the options of a command."""
    return "\n  ".join([_HEAD, *commands])
