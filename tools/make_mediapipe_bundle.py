"""Make mchmr_stream/assets/pose_landmarker_full.task, the model file of MediaPipe's tasks API, from an npm package.

    npm pack @mediapipe/pose@0.5.1675469404 && tar xf mediapipe-pose-0.5.1675469404.tgz
    python tools/make_mediapipe_bundle.py package --model full

The package (Apache-2.0, Google) holds BlazePose's person detector and its landmark models lite, full and heavy as TensorFlow Lite files.
The tasks API needs them in a zip archive, each with metadata on the scaling of its input picture, which this tool adds. Needs `pip
install mediapipe`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import struct
import sys
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as tflite_schema

DETECTOR = "/pose_detection.tflite"
METADATA_NAME = "TFLITE_METADATA"
ALIGNMENT = 64
ALIGNMENT_FIELD = 0xD935
LOCAL_HEADER_BYTES = 30


def read_detector(package: Path) -> bytes:
    """The person detector, extracted from the package's data file, whose loader lists its contents."""
    loader = (package / "pose_solution_packed_assets_loader.js").read_text()
    listing = re.search(r"loadPackage\((\{.*?\})\);", loader, re.DOTALL)
    if listing is None:
        sys.exit(f"{package}/pose_solution_packed_assets_loader.js lists no files; expected npm @mediapipe/pose 0.5.1675469404")
    entry = next(file for file in json.loads(listing[1])["files"] if file["filename"].endswith(DETECTOR))
    return (package / "pose_solution_packed_assets.data").read_bytes()[entry["start"] : entry["end"]]


def with_scaling(model_bytes: bytes, name: str, mean: float, std: float) -> bytes:
    """A TensorFlow Lite model with metadata that its RGB input is (byte - mean) / std."""
    model = tflite_schema.ModelT.InitFromObj(tflite_schema.Model.GetRootAsModel(bytearray(model_bytes), 0))
    graph = model.subgraphs[0]

    picture = metadata_schema.TensorMetadataT()
    picture.name = "image"
    picture.content = metadata_schema.ContentT()
    picture.content.contentPropertiesType = metadata_schema.ContentProperties.ImageProperties
    picture.content.contentProperties = metadata_schema.ImagePropertiesT()
    picture.content.contentProperties.colorSpace = metadata_schema.ColorSpaceType.RGB
    scaling = metadata_schema.ProcessUnitT()
    scaling.optionsType = metadata_schema.ProcessUnitOptions.NormalizationOptions
    scaling.options = metadata_schema.NormalizationOptionsT()
    scaling.options.mean, scaling.options.std = [mean], [std]
    picture.processUnits = [scaling]
    picture.stats = metadata_schema.StatsT()
    picture.stats.min, picture.stats.max = [(0 - mean) / std], [(255 - mean) / std]

    outputs = []
    for index in graph.outputs:
        output = metadata_schema.TensorMetadataT()
        output.name = graph.tensors[index].name.decode()
        outputs.append(output)
    tensors = metadata_schema.SubGraphMetadataT()
    tensors.inputTensorMetadata, tensors.outputTensorMetadata = [picture], outputs
    metadata = metadata_schema.ModelMetadataT()
    metadata.name, metadata.subgraphMetadata = name, [tensors]

    entry = tflite_schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    buffer = tflite_schema.BufferT()
    buffer.data = np.frombuffer(_packed(metadata, b"M001"), np.uint8)
    model.buffers.append(buffer)
    model.metadata = [old for old in model.metadata or [] if old.name != METADATA_NAME.encode()] + [entry]
    return _packed(model, b"TFL3")


def _packed(table: metadata_schema.ModelMetadataT | tflite_schema.ModelT, identifier: bytes) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())


def _padding(position: int) -> bytes:
    """A zip extra field that aligns the following data to a multiple of `ALIGNMENT`, as Android's zipalign does."""
    head = struct.calcsize("<HH")
    fill = -(position + head) % ALIGNMENT
    return struct.pack("<HH", ALIGNMENT_FIELD, fill) + bytes(fill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder of the unpacked npm package @mediapipe/pose")
    parser.add_argument("--model", choices=["lite", "full", "heavy"], default="full")
    parser.add_argument("--out", type=Path, help="default: mchmr_stream/assets/pose_landmarker_MODEL.task")
    arguments = parser.parse_args()
    default = Path(__file__).parents[1] / f"mchmr_stream/assets/pose_landmarker_{arguments.model}.task"
    out: Path = arguments.out or default

    landmarks = (arguments.package / f"pose_landmark_{arguments.model}.tflite").read_bytes()
    members = {
        "pose_detector.tflite": with_scaling(read_detector(arguments.package), "PoseDetector", mean=127.5, std=127.5),
        "pose_landmarks_detector.tflite": with_scaling(landmarks, "PoseLandmark", mean=0.0, std=255.0),
    }
    # Stored, not deflated: MediaPipe memory-maps the members. One fixed date, so that equal inputs give equal files.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as bundle:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.extra = _padding(bundle.fp.tell() + LOCAL_HEADER_BYTES + len(name))
            bundle.writestr(member, content)
    print(f"{out}: {out.stat().st_size} bytes, SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
