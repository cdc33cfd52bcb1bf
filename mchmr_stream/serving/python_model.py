"""The model for Triton's python backend: one answer per request. It runs in the server's own Python process.

Tensors are passed by DLPack both ways: with numpy 2, the backend's `as_numpy` and `Tensor(name, array)` silently give wrong numbers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch.utils.dlpack import from_dlpack

from mchmr_stream.datatypes import CropBatch, CropEstimates
from mchmr_stream.errors import InputError, MchmrError, UsageError
from mchmr_stream.estimators.local import LocalEstimator
from mchmr_stream.triton.wire_format import OUTPUT_SPECS, answer_arrays, batch_from_request, input_specs


class TritonPythonModel:
    """The interface of the python backend: `initialize`, `execute`, `finalize`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the weights that the configuration names. An exception becomes the server's reason for not loading."""
        import triton_python_backend_utils as pb_utils

        self._pb_utils = pb_utils
        parameters = {name: value["string_value"] for name, value in json.loads(args["model_config"])["parameters"].items()}
        on_gpu = args["model_instance_kind"] == "GPU"
        device = torch.device("cuda", int(args["model_instance_device_id"])) if on_gpu else torch.device("cpu")
        torch.set_num_threads(int(parameters["threads"]) or max(1, (os.cpu_count() or 1) // 2))
        precision, views = parameters["precision"], int(parameters["prepared_views"])
        own = Path(args["model_repository"]) / args["model_version"] / parameters["weights_file"]
        weights = str(own) if own.is_file() else parameters["weights_file"]
        self._estimator = LocalEstimator(weights, device, precision, views)
        if self._estimator.info.weights_sha256 != parameters["weights_sha256"]:
            raise InputError(
                f"weights {weights} have SHA-256 {self._estimator.info.weights_sha256[:12]}, the model's configuration says "
                f"{parameters['weights_sha256'][:12]}; write the repository again with `mchmr export-model`"
            )
        self._names = [spec.name for spec in input_specs(self._estimator.info.crop_size_hw)]
        self._merges = on_gpu
        pb_utils.Logger.log_info(f"mchmr: weights {self._estimator.info.name} on {device}, torch {torch.__version__}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Compute a batch of requests.

        A request that cannot be computed gets its own error, so that the others do not fail with it.

        Args:
            requests: The backend's requests.

        Returns:
            One response per request.
        """
        answers: list[Any] = [None] * len(requests)
        batches: dict[int, CropBatch] = {}
        for index, request in enumerate(requests):
            if request.is_cancelled():
                answers[index] = self._refusal("the client has gone", "CANCELLED")
                continue
            try:
                batches[index] = batch_from_request({name: self._tensor(request, name) for name in self._names})
            except ValueError as error:
                answers[index] = self._refusal(str(error), "INVALID_ARG")
        for index, result in self._computed(batches).items():
            answers[index] = self._answer(result) if isinstance(result, CropEstimates) else result
        return answers

    def _computed(self, batches: dict[int, CropBatch]) -> dict[int, Any]:
        """Estimates, or an error, of each batch.

        A GPU computes all people in one pass. On a CPU larger batches are no faster, so each request is computed as in process: its
        numbers do not depend, to the last bit, on the other requests.
        """
        if self._merges and len(batches) > 1:
            try:
                estimates = self._estimator.estimate(CropBatch.concat(list(batches.values())))
            except (MchmrError, ValueError):
                pass  # one of the batches is invalid: below, each is computed alone
            else:
                return dict(zip(batches, estimates.split([len(batch) for batch in batches.values()]), strict=True))
        results: dict[int, Any] = {}
        for index, batch in batches.items():
            try:
                results[index] = self._estimator.estimate(batch)
            except (UsageError, ValueError) as error:
                results[index] = self._refusal(str(error), "INVALID_ARG")
            except (MchmrError, RuntimeError) as error:  # RuntimeError: raised by torch, for example out of memory
                results[index] = self._refusal(f"{type(error).__name__}: {error}", "INTERNAL")
        return results

    def finalize(self) -> None:
        """Release the model when the backend unloads it."""
        self._estimator.close()

    def _tensor(self, request: Any, name: str) -> torch.Tensor:
        return from_dlpack(self._pb_utils.get_input_tensor_by_name(request, name).to_dlpack())

    def _answer(self, estimates: CropEstimates) -> Any:
        arrays = answer_arrays(estimates)
        tensors = [self._pb_utils.Tensor.from_dlpack(spec.name, torch.from_numpy(arrays[spec.name])) for spec in OUTPUT_SPECS]
        return self._pb_utils.InferenceResponse(output_tensors=tensors)

    def _refusal(self, message: str, code: str) -> Any:
        error = self._pb_utils.TritonError(message, getattr(self._pb_utils.TritonError, code))
        return self._pb_utils.InferenceResponse(error=error)
