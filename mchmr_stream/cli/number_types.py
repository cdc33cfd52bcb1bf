"""Types for argparse of numbers with a valid range; argparse adds the option's name to the message."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def integer(least: int, most: int) -> Callable[[str], int]:
    """Return a type of integers from `least` to `most`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"got {_shortened(text)}, expected a whole number from {least} to {most}")
        return value

    return read


def seconds(most: float = 1e9) -> Callable[[str], float]:
    """Return a type of times above 0, in seconds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= most:  # also refuses nan
            raise argparse.ArgumentTypeError(f"got {_shortened(text)}, expected seconds above 0, {most:g} at most")
        return value

    return read


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
