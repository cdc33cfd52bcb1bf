"""A disk in memory on which case and Unicode form do not count, as on macOS, Windows and exFAT: `python case_insensitive.py FOLDER`.

Speaks the protocol of the kernel's FUSE (include/uapi/linux/fuse.h) itself, and so needs /dev/fuse and root but no library. It is mounted
until its standard input ends. With `--by-name` every spelling of a name has a file number of its own, as with some drivers for exFAT.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_REQUEST = struct.Struct("<IIQQIIIHH")
_ATTRIBUTES = struct.Struct("<6Q10I")
_NO_REPLY = {2, 36, 42}
_MAX_WRITE = 1 << 17


@contextmanager
def mounted(folder: Path, *, by_name: bool = False) -> Iterator[bool]:
    """The disk at `folder` for a while; False where this machine cannot have it."""
    child = subprocess.Popen(
        [sys.executable, __file__, str(folder), *(["--by-name"] if by_name else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # who kills the tests' group leaves it the time to unmount: its input ends then
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child.stdout.readline() == b"mounted\n"
    finally:
        child.stdin.close()
        child.wait()


@dataclass(eq=False)
class _Node:
    mode: int
    data: bytearray = field(default_factory=bytearray)
    entries: dict[str, tuple[str, _Node]] = field(default_factory=dict)
    """key -> (name as written, what is there)"""


def _key(name: str) -> str:
    return unicodedata.normalize("NFD", name).casefold()


class _Disk:
    def __init__(self, by_name: bool) -> None:
        self._by_name = by_name
        self._nodes = {1: _Node(stat.S_IFDIR | 0o755)}
        self._numbers: dict[tuple[int, str], int] = {}

    def answer(self, opcode: int, number: int, body: bytes) -> bytes:
        """Raises OSError with the number of what is wrong."""
        node = self._nodes[number or 1]  # (what is said at the beginning is about nothing there)
        names = lambda start: [part.decode() for part in body[start:].split(b"\0")[:2]]
        match opcode:
            case 26:
                return struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 16, 1 << 5, 0, 0, _MAX_WRITE, 1, 0, 0, 0, *[0] * 7)
            case 1:
                return self._entry(node, names(0)[0])
            case 3:
                return self._attributes(number)
            case 4:
                valid, size, mode = struct.unpack_from("<I12xQ", body) + struct.unpack_from("<I", body, 68)
                if valid & 8:
                    del node.data[size:]
                    node.data.extend(bytes(size - len(node.data)))
                if valid & 1:
                    node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
                return self._attributes(number)
            case 9 | 35:
                start, mode = (8, stat.S_IFDIR | 0o755) if opcode == 9 else (16, stat.S_IFREG | 0o644)
                name = names(start)[0]
                node.entries[_key(name)] = (name, _Node(mode))
                return self._entry(node, name) + (b"" if opcode == 9 else bytes(16))
            case 10 | 11:
                if self._found(node, names(0)[0]).entries:
                    raise OSError(errno.ENOTEMPTY, "")
                del node.entries[_key(names(0)[0])]
                return b""
            case 12 | 45:
                old, new = names(8 if opcode == 12 else 16)
                there = self._nodes[struct.unpack_from("<Q", body)[0]]
                moved = self._found(node, old)
                del node.entries[_key(old)]
                there.entries[_key(new)] = (new, moved)
                return b""
            case 14 | 27:
                return bytes(16)
            case 15:
                _, offset, size = struct.unpack_from("<QQI", body)
                return bytes(node.data[offset : offset + size])
            case 16:
                _, offset, size = struct.unpack_from("<QQI", body)
                node.data.extend(bytes(max(0, offset - len(node.data))))
                node.data[offset : offset + size] = body[40 : 40 + size]
                return struct.pack("<II", size, 0)
            case 28:
                return self._listing(node, *struct.unpack_from("<QI", body, 8))
            case 17:
                return struct.pack("<5Q4I24x", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, 0)
            case 18 | 20 | 25 | 29 | 30 | 38:
                return b""
        raise OSError(errno.ENOSYS, "")

    def _found(self, folder: _Node, name: str) -> _Node:
        if _key(name) not in folder.entries:
            raise OSError(errno.ENOENT, "")
        return folder.entries[_key(name)][1]

    def _entry(self, folder: _Node, name: str) -> bytes:
        node = self._found(folder, name)
        number = self._numbers.setdefault((id(node), name if self._by_name else ""), len(self._numbers) + 2)
        self._nodes[number] = node  # kept for ever, so that no other one gets its id
        return struct.pack("<QQQQII", number, 0, 0, 0, 0, 0) + self._attributes(number)[16:]

    def _attributes(self, number: int) -> bytes:
        node = self._nodes[number or 1]  # (what is said at the beginning is about nothing there)
        size = len(node.data)
        return struct.pack("<QII", 0, 0, 0) + _ATTRIBUTES.pack(
            number, size, -(-size // 512), 0, 0, 0, 0, 0, 0, node.mode, 1, 0, 0, 0, 4096, 0
        )

    @staticmethod
    def _listing(folder: _Node, offset: int, size: int) -> bytes:
        listing = b""
        for place, (name, node) in list(enumerate(folder.entries.values(), start=1))[offset:]:
            encoded = name.encode()
            entry = struct.pack("<QQII", 1, place, len(encoded), node.mode >> 12) + encoded
            entry += bytes(-len(entry) % 8)
            if len(listing) + len(entry) > size:
                break
            listing += entry
        return listing


def _serve(device: int, disk: _Disk) -> None:
    """Answer the kernel until the standard input ends."""
    while True:
        ready, _, _ = select.select([device, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        request = os.read(device, _MAX_WRITE + (1 << 16))
        _, opcode, unique, number, *_ = _REQUEST.unpack_from(request)
        if opcode in _NO_REPLY:
            continue
        try:
            error, content = 0, disk.answer(opcode, number, request[_REQUEST.size :])
        except OSError as wrong:
            error, content = -(wrong.errno or errno.EIO), b""
        os.write(device, struct.pack("<IiQ", 16 + len(content), error, unique) + content)


def main(folder: str, by_name: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    if libc.mount(b"mchmr-test", os.fsencode(folder), b"fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()):
        raise OSError(ctypes.get_errno(), "cannot be mounted")
    try:
        print("mounted", flush=True)
        _serve(device, _Disk(by_name))
    finally:
        libc.umount2(os.fsencode(folder), 2)


if __name__ == "__main__":
    try:
        main(sys.argv[1], "--by-name" in sys.argv)
    except OSError as error:
        print(error, flush=True)
