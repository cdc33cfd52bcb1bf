"""Average of several networks' weights, such as late checkpoints of one training.

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mchmr_stream.errors import UsageError
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.network.weights import LoadedNetwork, load_network, save_network


def average_weights(files: Sequence[Path], out: Path) -> None:
    """Write the mean of several networks of one shape, with their names in its header.

    It is computed in float64. The head is written in float16 if all files hold it so, else in float32. Running means and variances of
    batch norms are averaged too, which is right where the networks are close together, like checkpoints of one run.

    Args:
        files: Two or more files of weights.
        out: The output (.safetensors).

    Raises:
        UsageError: There are fewer than two files, or they differ in shape.
        MissingPart: A file does not exist.
        InputError: A file cannot be read.
    """
    if len(files) < 2:
        raise UsageError("one file is its own average; give two or more")
    if out.suffix != ".safetensors":
        raise UsageError(f"output is {out}, expected a name that ends in .safetensors")
    refuse_to_replace(files, [out])
    first = load_network(str(files[0]))
    sums = {name: value.double() for name, value in first.net.state_dict().items()}
    loaded: list[LoadedNetwork] = [first]
    for file in files[1:]:
        other = load_network(str(file))
        if other.net.config != first.net.config:
            raise UsageError(f"{file} holds another network than {files[0]}; weights of one shape only can be averaged")
        for name, value in other.net.state_dict().items():
            sums[name] += value.double()
        loaded.append(other)
    mean = {
        name: (sums[name] / len(files)).to(value.dtype) if value.is_floating_point() else value
        for name, value in loaded[-1].net.state_dict().items()
    }
    if not all(torch.isfinite(value).all() for value in mean.values()):
        raise UsageError("the average is not finite; one of the files holds weights that are not")
    first.net.load_state_dict(mean)
    made_by = {"average_of": [{"file": one.name, "sha256": one.sha256, "step": one.provenance.get("step")} for one in loaded]}
    save_network(out, first.net, first.provenance | made_by, half=all(one.half for one in loaded))
