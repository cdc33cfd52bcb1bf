"""Libraries that only some formats need, imported when one is written. All but that of GLB come with the extra `export`."""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType

from mchmr_stream.errors import MissingPart


def needed(module: str, package: str, what: str) -> ModuleType:
    """Import `module` of the distribution `package`. Raises MissingPart, saying how to install it, where it is not installed."""
    root = logging.getLogger()
    # A library that sets up logging when it is imported would print our own messages a second time.
    held = logging.NullHandler()
    root.addHandler(held)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingPart(f"{what} needs {package}, which is not installed: python -m pip install {package}") from error
    finally:
        root.removeHandler(held)
