"""Files that an input and its settings consist of, and their contents."""

from __future__ import annotations

import os
from pathlib import Path

from mchmr_stream.config import Settings, files_by_setting, may_change
from mchmr_stream.errors import InputError
from mchmr_stream.files.content_hash import Files, MadeOf, content_of
from mchmr_stream.sources import refuse_url
from mchmr_stream.sources.file_kind import IMAGE_SUFFIXES
from mchmr_stream.sources.picture_files import find_pictures
from mchmr_stream.sources.playlists import files_listed


def made_of(path: Path, settings: Settings) -> MadeOf:
    """Size and content of an input and of the files named by its settings. Raises InputError if the input does not exist."""
    files = _input_files(path)
    relevant = {name: file for name, file in files_by_setting(settings).items() if not may_change(name)}
    contents = {name: content_of(file) for name, file in relevant.items()}
    known = {name: content for name, content in contents.items() if content is not None}
    return MadeOf(Path(os.path.abspath(path)), files, content_of(files), known)


def _input_files(path: Path) -> Files:
    """The file, a playlist and its entries, or the pictures of a folder or pattern, in order."""
    if os.path.isdir(path) or (path.suffix.lower() in IMAGE_SUFFIXES and not os.path.exists(path)):
        return find_pictures(path, IMAGE_SUFFIXES)
    refuse_url(path)
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist, expected a video file, a picture or a folder of pictures")
    listed = [file for file in files_listed(path) if file.is_file()]
    return [path, *listed] if listed else path
