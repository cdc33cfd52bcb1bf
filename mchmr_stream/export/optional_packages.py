"""Libraries that only some formats need, imported on use. All but that of GLB are in the extra `export`."""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType

from mchmr_stream.errors import MissingPart


def needed(module: str, package: str, what: str) -> ModuleType:
    """Import an optional library.

    Args:
        module: The module.
        package: The distribution that contains it.
        what: The format that needs it, for the message.

    Returns:
        The module.

    Raises:
        MissingPart: It is not installed; the message says how to install it.
    """
    root = logging.getLogger()
    # A library that sets up logging on import would print this package's messages a second time.
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
