"""Crops to a server on the same machine through memory that both see, one region for each request on its way."""

from __future__ import annotations

import base64
import contextlib
import logging
import mmap
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np

from mchmr_stream.errors import MissingPart, ServerError
from mchmr_stream.triton.connection import Connection

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_FOLDER = Path("/dev/shm")


class NoMemory(ServerError):
    """There is no room for a region."""


class Place(NamedTuple):
    """Where a tensor lies that is not inside of the request."""

    region: str
    byte_size: int
    shape: tuple[int, ...]


class _MemoryRegion(Protocol):
    name: str
    size: int

    def write(self, crops: Tensor) -> None: ...

    def close(self) -> None: ...


class CropMemory:
    """The regions of one connection. Raises ServerError from the start where the server cannot open the client's memory."""

    def __init__(self, connection: Connection, kind: Literal["system", "cuda"], first_size: int, timeout_s: float) -> None:
        self._connection, self._kind, self._timeout_s = connection, kind, timeout_s
        self._free: list[_MemoryRegion] = []
        self._used: dict[str, _MemoryRegion] = {}
        if kind == "system":
            _drop_regions_of_the_dead(connection, timeout_s)
        self._free.append(self._new(first_size))

    def put(self, request_id: str, crops: Tensor) -> Place:
        """Copy uint8 `crops` to where the server finds them until `release`. Raises NoMemory."""
        self.release(request_id)
        size = crops.numel()
        region = self._free.pop() if self._free else None
        if region is not None and region.size < size:
            self._forget(region)
            region = None
        if region is None:
            region = self._new(1 << (size - 1).bit_length())
        self._used[request_id] = region
        region.write(crops)
        return Place(region.name, size, tuple(crops.shape))

    def release(self, request_id: str) -> None:
        """The request is answered: its region may be written again."""
        region = self._used.pop(request_id, None)
        if region is not None:
            self._free.append(region)

    def close(self, *, server_is_there: bool) -> None:
        """Give everything back; what a lost server still has open is its own."""
        for region in [*self._free, *self._used.values()]:
            if server_is_there:
                self._forget(region)
            else:
                region.close()
        self._free.clear()
        self._used.clear()

    def _new(self, size: int) -> _MemoryRegion:
        return (
            _SystemRegion(self._connection, size, self._timeout_s)
            if self._kind == "system"
            else _CudaRegion(self._connection, size, self._timeout_s)
        )

    def _forget(self, region: _MemoryRegion) -> None:
        with contextlib.suppress(ServerError):  # the server goes away, and its side of the region with it
            self._connection.unregister_memory(region.name, self._kind.title(), self._timeout_s)
        region.close()


class _SystemRegion:
    """Shared memory without a name: the file is gone once the server has opened it, so that nothing can stay behind."""

    def __init__(self, connection: Connection, size: int, timeout_s: float) -> None:
        self.name, self.size = f"{_owner()}{uuid.uuid4().hex[:8]}", size
        path = _FOLDER / self.name
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise NoMemory(f"cannot make shared memory at {path}: {error.strerror}; use --shm off") from error
        try:
            # Take the room now: without it, the first write to a full /dev/shm kills the process.
            os.posix_fallocate(file, 0, size)
            self._map = mmap.mmap(file, size)
            connection.register_memory(self.name, f"/{self.name}", size, timeout_s)
        except OSError as error:
            free = os.statvfs(_FOLDER)
            raise NoMemory(
                f"no room for {size / 2**20:.0f} MiB of crops in /dev/shm ({free.f_bavail * free.f_frsize / 2**20:.0f} MiB are free); "
                "enlarge it (docker run --shm-size=1g), lower triton.in_flight, or use --shm off"
            ) from error
        finally:
            os.close(file)
            path.unlink(missing_ok=True)
        self._bytes = np.frombuffer(self._map, np.uint8)

    def write(self, crops: Tensor) -> None:
        flat = crops.cpu().reshape(-1).numpy()
        self._bytes[: len(flat)] = flat

    def close(self) -> None:
        del self._bytes
        self._map.close()


class _CudaRegion:
    """Memory of the GPU that the crops are on; they never leave it."""

    def __init__(self, connection: Connection, size: int, timeout_s: float) -> None:
        import torch

        try:
            from tritonclient.utils import cuda_shared_memory as cuda
        except ImportError as error:
            raise MissingPart(f"--shm cuda needs CUDA's Python bindings ({error}); python -m pip install 'tritonclient[cuda]'") from error
        if not torch.cuda.is_available():
            raise NoMemory("--shm cuda needs a GPU here, none is usable; use --shm auto")
        self.name, self.size = f"{_owner()}{uuid.uuid4().hex[:8]}", size
        self._cuda, device = cuda, torch.cuda.current_device()
        try:
            self._handle = cuda.create_shared_memory_region(self.name, size, device)
        except cuda.CudaSharedMemoryException as error:
            raise NoMemory(f"no room for {size / 2**20:.0f} MiB of crops on cuda:{device}: {error}; use --shm system") from error
        try:
            handle = base64.b64decode(cuda.get_raw_handle(self._handle))
            connection.register_cuda_memory(self.name, handle, device, size, timeout_s)
        except BaseException:
            self.close()
            raise

    def write(self, crops: Tensor) -> None:
        self._cuda.set_shared_memory_region_from_dlpack(self._handle, [crops.contiguous()])

    def close(self) -> None:
        self._cuda.destroy_shared_memory_region(self._handle)


def _owner() -> str:
    """The start of the names of this process's regions. Process ids mean something within one namespace only."""
    return f"mchmr-{os.stat('/proc/self/ns/pid').st_ino}-{os.getpid()}-"


def _drop_regions_of_the_dead(connection: Connection, timeout_s: float) -> None:
    """A client that was killed could not give its regions back: the server would keep their memory until it ends."""
    ours = _owner().rsplit("-", 2)[0] + "-"
    for name in connection.memory_regions(timeout_s):
        pid = name.removeprefix(ours).partition("-")[0]
        if name.startswith(ours) and not Path(f"/proc/{pid}").exists():
            log.info("region %s was left by a client that has died; the server forgets it", name)
            connection.unregister_memory(name, "System", timeout_s)
