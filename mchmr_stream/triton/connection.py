"""One Triton server over gRPC: what it says of its model, single inferences, a stream of them, reloading.

Every error that leaves here is a `ServerError` with one line. `Refused` is one that trying again cannot mend.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import CropEstimates
from mchmr_stream.errors import InputError, MissingPart, ServerError, UsageError
from mchmr_stream.triton.wire_format import (
    DTYPES,
    OUTPUT_SPECS,
    About,
    TensorSpec,
    estimates_from_answer,
    input_specs,
    probe_batch,
    request_arrays,
)

try:
    import grpc
    from tritonclient.grpc import service_pb2 as pb
    from tritonclient.grpc import service_pb2_grpc
except (ImportError, RuntimeError) as error:  # RuntimeError: tritonclient without its gRPC part
    raise MissingPart(f"Triton's client is not installed ({error}); python -m pip install 'tritonclient[grpc]'") from error


class Refused(ServerError):
    """The server will say the same again: wrong model, wrong shape, no permission."""


class Gone(ServerError):
    """Nobody answers: the connection is of no use any more."""


class StubDied(ServerError):
    """The server runs, the model's process in it does not; it has to be loaded again."""


@dataclass(frozen=True)
class ServerAccess:
    """How to be let in. `headers` go with every call, for instance {"authorization": "Bearer ..."}."""

    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def channel(self, address: str) -> grpc.Channel:
        """Raises InputError where a file cannot be read."""
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # A channel of this process that failed must not make the next one wait.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        if not self.tls:
            return grpc.insecure_channel(address, options)
        pem = [_read(path) if path is not None else None for path in (self.ca_file, self.key_file, self.cert_file)]
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(*pem), options)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers as gRPC takes them: names in lower case."""
        return tuple((name.lower(), value) for name, value in self.headers.items())


class Answer:
    """What came back for one request of a stream: estimates or an error."""

    def __init__(self, request_id: str, estimates: CropEstimates | None, error: ServerError | None) -> None:
        self.request_id, self.estimates, self.error = request_id, estimates, error


class Connection:
    """A channel to one server and model. Opening it does not connect yet; `about` does."""

    def __init__(self, address: str, model: str, access: ServerAccess) -> None:
        self.address, self.model, self._access = address, model, access
        self._channel = access.channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._wire_names: dict[str, str] = {}
        """our name of a tensor -> the model's: Triton's pytorch backend wants NAME__INDEX"""
        self.most_people = 1

    def about(self, timeout_s: float) -> About:
        """What is served here. Raises Refused where it is no model of this project."""
        reply = self._call("ModelConfig", pb.ModelConfigRequest(name=self.model), timeout_s)
        config = reply.config
        where = f"model {self.model} at {self.address}"
        try:
            about = About.from_parameters({key: value.string_value for key, value in config.parameters.items()}, where)
        except InputError as error:
            raise Refused(str(error)) from error
        served = {tensor.name.partition("__")[0]: tensor for tensor in [*config.input, *config.output]}
        self._wire_names = {name: tensor.name for name, tensor in served.items()}
        for spec in [*input_specs(about.crop_size_hw), *OUTPUT_SPECS]:
            other = f"it is of mchmr-stream {about.version}; update one of them"
            if spec.name not in served:
                raise Refused(f"{where} has no tensor {spec.name}: {other}")
            dims = list(served[spec.name].dims)
            if not spec.fits(dims):
                raise Refused(f"{where} has {spec.name} of {dims} for each person, expected {list(spec.dims)}: {other}")
        self.most_people = max(1, config.max_batch_size)
        return about

    def message(
        self,
        request_id: str,
        arrays: Mapping[str, NDArray],
        specs: Iterable[TensorSpec],
        elsewhere: Mapping[str, tuple[str, int, tuple[int, ...]]] | None = None,
    ) -> Any:
        """A request with its data inside, except for tensors that are `elsewhere`: region of shared memory, bytes, shape."""
        request = pb.ModelInferRequest(model_name=self.model, id=request_id)
        for spec in specs:
            tensor = request.inputs.add(name=self._wire_names[spec.name], datatype=spec.datatype)
            if elsewhere is not None and spec.name in elsewhere:
                region, byte_size, shape = elsewhere[spec.name]
                tensor.shape.extend(shape)
                tensor.parameters["shared_memory_region"].string_param = region
                tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
            else:
                tensor.shape.extend(arrays[spec.name].shape)
                request.raw_input_contents.append(arrays[spec.name].tobytes())
        for spec in OUTPUT_SPECS:
            request.outputs.add(name=self._wire_names[spec.name])
        return request

    def infer(self, request: Any, timeout_s: float) -> CropEstimates:
        """One request on its own: slower than a stream, but an error comes with its kind."""
        return _estimates(self._call("ModelInfer", request, timeout_s))

    def probe(self, about: About, timeout_s: float) -> None:
        """A real inference: a server may call itself ready while the model's process is dead."""
        batch = probe_batch(about.crop_size_hw, about.fixed_views or 5)
        self.infer(self.message("probe", request_arrays(batch), input_specs(about.crop_size_hw)), timeout_s)

    def stream(self, on_answer: Callable[[Answer], None], on_end: Callable[[ServerError], None]) -> Stream:
        """Open a stream. Both callbacks come from its thread; `on_end` once, however it ends."""
        return Stream(self._stub.ModelStreamInfer, self._access.metadata, self._explained, on_answer, on_end)

    def reload(self, timeout_s: float) -> None:
        """Unload and load the model: what brings a dead model process back. Others' requests wait or fail meanwhile."""
        self._call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=self.model), timeout_s)
        self._call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=self.model), timeout_s)

    def register_memory(self, region: str, key: str, size: int, timeout_s: float) -> None:
        """Let the server read system shared memory. Raises ServerError where it cannot see it: another machine, or container."""
        request = pb.SystemSharedMemoryRegisterRequest(name=region, key=key, offset=0, byte_size=size)
        self._call("SystemSharedMemoryRegister", request, timeout_s)

    def register_cuda_memory(self, region: str, handle: bytes, device: int, size: int, timeout_s: float) -> None:
        """The same for memory of a GPU."""
        request = pb.CudaSharedMemoryRegisterRequest(name=region, raw_handle=handle, device_id=device, byte_size=size)
        self._call("CudaSharedMemoryRegister", request, timeout_s)

    def unregister_memory(self, region: str, kind: str, timeout_s: float) -> None:
        """`kind`: System or Cuda."""
        request = getattr(pb, f"{kind}SharedMemoryUnregisterRequest")(name=region)
        self._call(f"{kind}SharedMemoryUnregister", request, timeout_s)

    def memory_regions(self, timeout_s: float) -> list[str]:
        """Names of all system shared memory that the server has open."""
        return list(self._call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(), timeout_s).regions)

    def statistics(self, timeout_s: float) -> Any:
        """Triton's ModelStatistics of the model."""
        return self._call("ModelStatistics", pb.ModelStatisticsRequest(name=self.model), timeout_s).model_stats[0]

    def close(self) -> None:
        """Calls in flight are cancelled."""
        self._channel.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _call(self, name: str, request: Any, timeout_s: float) -> Any:
        try:
            return getattr(self._stub, name)(request, timeout=timeout_s, metadata=self._access.metadata)
        except grpc.RpcError as error:
            raise self._explained(error.code(), error.details() or "", timeout_s) from error

    def _explained(self, code: grpc.StatusCode | None, details: str, timeout_s: float | None = None) -> ServerError:
        """One line that says what to do."""
        details = " ".join(details.split())[:300]
        if "tub process" in details and "not healthy" in details:
            return StubDied(f"the model's process on {self.address} has died ({details})")
        if "xceeds maximum queue size" in details:
            return ServerError(f"Triton's queue is full at {self.address} ({details}); see max_queue_size in the model's configuration")
        if code == grpc.StatusCode.UNAVAILABLE and not details.startswith(("[request id", "Request for unknown")):
            tls = "with" if self._access.tls else "without"
            return Gone(f"no Triton server answers at {self.address} ({tls} TLS): {details}; start one with `mchmr serve`")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            within = f" within {timeout_s:g} s" if timeout_s is not None else " in time"
            return Gone(f"Triton at {self.address} gave no answer{within}; see its log, or raise triton.deadline_s")
        if code == grpc.StatusCode.NOT_FOUND:
            return Refused(f"Triton at {self.address} has no model {self.model} ({details}); name another with --set triton.model=NAME")
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return Refused(f"Triton at {self.address} refuses access ({details}); give it what it wants in triton.headers")
        if code == grpc.StatusCode.INVALID_ARGUMENT:
            return Refused(f"Triton at {self.address} does not take the request: {details}")
        return ServerError(f"Triton at {self.address}: {details or code}")


class Stream:
    """Requests in, answers out as they come; both sides may be ahead of each other."""

    def __init__(
        self,
        call: Callable[..., Any],
        metadata: tuple[tuple[str, str], ...],
        explained: Callable[[grpc.StatusCode | None, str], ServerError],
        on_answer: Callable[[Answer], None],
        on_end: Callable[[ServerError], None],
    ) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._explained, self._on_answer, self._on_end = explained, on_answer, on_end
        self._call = call(iter(self._requests.get, None), metadata=metadata)
        # A daemon: a stream that nobody closed must not keep the program from ending.
        self._reader = threading.Thread(target=self._read, name="triton answers", daemon=True)
        self._reader.start()

    def send(self, message: Any) -> None:
        """Returns at once."""
        self._requests.put(message)

    def close(self) -> None:
        """What is still in flight is given up."""
        self._call.cancel()
        self._requests.put(None)
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def _read(self) -> None:
        try:
            for reply in self._call:
                self._on_answer(self._answer(reply))
        except grpc.RpcError as error:
            self._on_end(self._explained(error.code(), error.details() or ""))
        else:
            self._on_end(Gone("the server closed the stream"))

    def _answer(self, reply: Any) -> Answer:
        request_id = reply.infer_response.id
        if reply.error_message:
            return Answer(request_id, None, self._explained(None, reply.error_message))
        try:
            return Answer(request_id, _estimates(reply.infer_response), None)
        except Refused as error:
            return Answer(request_id, None, error)


def _estimates(reply: Any) -> CropEstimates:
    try:
        arrays = {
            output.name.partition("__")[0]: np.frombuffer(data, DTYPES[output.datatype]).reshape(tuple(output.shape)).copy()
            for output, data in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
        return estimates_from_answer(arrays)
    except (KeyError, ValueError) as error:
        raise Refused(f"model {reply.model_name} answers with something else than bodies ({error}); update client or server") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; expected a PEM file") from error
