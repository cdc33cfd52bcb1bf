"""Settings files that ship, found by name: `--config fast` reads `configs/fast.yaml`, wherever the package is installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def config_folder() -> Path:
    """Where the settings files are: in the package as a wheel installs it, beside the package in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """The files that ship, by name: `fast`, `train_default`, `ablations/base`."""
    folder = config_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_config(named: str | Path) -> Path:
    """A settings file from its path or, where there is no such file, from the name of one that ships.

    What is neither comes back as the path that it would be: reading it then fails with its name.
    """
    path = Path(named)
    return path if path.exists() else shipped_configs().get(path.as_posix(), path)


def shipped_ablations() -> list[Path]:
    """What `mchmr ablate` compares unless variants are given."""
    return [path for name, path in shipped_configs().items() if name.startswith("ablations/")]
