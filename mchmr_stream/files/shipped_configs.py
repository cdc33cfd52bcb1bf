"""Settings files that ship, found by name: `--config fast` reads `configs/fast.yaml` in any installation of the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def config_folder() -> Path:
    """Folder of the settings files: in the package as a wheel installs it, beside the package in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """Settings files by name: `fast`, `train_default`, `ablations/base`."""
    folder = config_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_config(named: str | Path) -> Path:
    """Find a settings file by its path or, if there is no such file, by the name of one that ships.

    Args:
        named: Path or name.

    Returns:
        The file. An unknown name is returned as a path, so that reading it fails with its name.
    """
    path = Path(named)
    return path if path.exists() else shipped_configs().get(path.as_posix(), path)


def shipped_ablations() -> list[Path]:
    """Files that `mchmr ablate` compares by default."""
    return [path for name, path in shipped_configs().items() if name.startswith("ablations/")]
