"""Parsing of text and .npz files of any supported syntax into dictionaries. `fields.py` interprets their names."""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from mchmr_stream.camera_files.colmap import read_colmap
from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_npz import read_npz

_MAX_BYTES = 4 * 2**20
_MOST_NUMBERS = 64
_NPZ_NAMES = (
    "K", "D", "mtx", "dist", "camera_matrix", "dist_coeffs", "dist_coeff", "cameraMatrix", "distCoeffs", "distortion",
    "distortion_coefficients", "image_size", "image_width", "image_height", "width", "height",
)  # fmt: skip
"""Names used by tutorials on `numpy.savez`."""
_WHAT = "a calibration of OpenCV, ROS, COLMAP, Kalibr or Pose2Sim"


def read_fields(path: Path) -> dict[str, Any]:
    """Read a file into dictionaries, lists, numbers and strings. Raises InputError in one line."""
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, (), optional=_NPZ_NAMES, what=_WHAT)
        return {name: array.tolist() for name, array in arrays.items() if array.size <= _MOST_NUMBERS}
    text = _text(path)
    try:
        fields = _parse(path, text)
    except (ValueError, RecursionError, yaml.YAMLError, ElementTree.ParseError) as error:
        raise InputError(f"cannot read intrinsics {path}: {' '.join(str(error).split())}; expected {_WHAT}") from error
    if isinstance(fields, list):
        return dict(zip(map(str, range(len(fields))), fields, strict=True))
    return fields if isinstance(fields, dict) else {}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"intrinsics {path} are larger than {_MAX_BYTES >> 20} MiB, expected {_WHAT}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read intrinsics {path}: {error.strerror or error}; expected {_WHAT}") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as saved by editors and shells of Windows
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"intrinsics {path} are no text; expected {_WHAT} as text (COLMAP: model_converter --output_type TXT)") from error
    if "\0" in text:
        raise InputError(f"intrinsics {path} are a binary file; expected {_WHAT} as text (COLMAP: model_converter --output_type TXT)")
    return text


def _parse(path: Path, text: str) -> Any:
    begin = text.lstrip()
    if path.suffix.lower() == ".toml":
        return tomllib.loads(text)
    if begin.startswith("<"):
        return _xml(text)
    if begin.startswith(("{", "[")):
        return json.loads(text)
    colmap = read_colmap(text)
    return colmap if colmap else _yaml(text)


class _OpenCvLoader(yaml.SafeLoader):
    """YAML with OpenCV's tags on matrices, which are plain mappings."""


def _matrix(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Any:
    return loader.construct_mapping(node, deep=True)


_OpenCvLoader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix)


def _yaml(text: str) -> Any:
    # OpenCV writes %YAML:1.0 in place of %YAML 1.0.
    return yaml.load(re.sub(r"\A\s*%YAML:.*", "", text), _OpenCvLoader)  # a SafeLoader


def _xml(text: str) -> Any:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares entities")
    return _element(ElementTree.fromstring(text))


def _element(element: ElementTree.Element) -> Any:
    """An element of OpenCV's XML: a mapping of its children, or its words."""
    if len(element):
        return {child.tag: _element(child) for child in element}
    words = (element.text or "").split()
    return words[0] if len(words) == 1 else words
