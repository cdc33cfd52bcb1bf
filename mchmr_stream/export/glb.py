"""glTF 2.0 in one binary file (.glb): all people in one scene, skinned and animated, with the clip's camera. Encoded by pygltflib.

Metres, y up. `scene_from_camera` (4, 4) is the pose of a camera that looks along -z with y up, as glTF's do: at the origin, or above
the floor of the world. Animation times are the clip's, in seconds (float32, as glTF stores them), one key per frame of the person;
quaternions are interpolated by slerp. The nodes' rest pose is the T-pose. An absent person is scaled to zero, the way to hide a node in
glTF that all viewers support.

Skinning is linear, with up to eight joints per vertex. The free body is linear, so its mesh is exact; a body with pose-dependent
corrections (SMPL's own) is drawn without them, see `left_out_m`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, BodyModel, skin
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.export.even_segments import Timeline
from mchmr_stream.export.materials import linear_colour, mesh_normals
from mchmr_stream.export.optional_packages import needed
from mchmr_stream.export.person_motion import Array, ExportedPerson, rest_vertices_m
from mchmr_stream.export.rotation_curves import quaternions_xyzw
from mchmr_stream.geometry.camera import Intrinsics

NEAR_M = 0.05
_FLOAT, _UBYTE, _USHORT, _UINT = 5126, 5121, 5123, 5125
_VERTEX_DATA, _INDICES = 34962, 34963
_INFLUENCES = 8
"""Two sets of four, the most that common readers support."""


def write_glb(
    path: Path,
    people: Sequence[ExportedPerson],
    timeline: Timeline,
    camera: Intrinsics,
    picture_wh: tuple[int, int],
    body: BodyModel,
    scene_from_camera: Array,
) -> None:
    """Write a scene.

    Args:
        path: The file.
        people: The people, y up.
        timeline: Frames and gaps.
        camera: The clip's camera.
        picture_wh: Width and height of the picture, px.
        body: The body model.
        scene_from_camera: (4, 4) pose of the camera.

    Raises:
        MissingPart: pygltflib is not installed.
    """
    gltf = needed("pygltflib", "pygltflib", "GLB")
    scene = _Scene(gltf)
    scene.add_camera(camera, picture_wh, scene_from_camera)
    for person in people:
        scene.add_person(person, timeline, body)
    scene.save(path)


def skin_weights(body: BodyModel) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(V, 8) joints and weights, the heaviest first; the rest is distributed among these. Rows sum to one."""
    weights = body.weights.double().numpy()
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :_INFLUENCES]
    kept = np.take_along_axis(weights, joints, 1)
    kept = (kept / kept.sum(1, keepdims=True)).astype(np.float32)
    return np.where(kept > 0, joints, 0).astype(np.uint8), kept


def left_out_m(person: ExportedPerson, body: BodyModel, frames: int = 50) -> Array:
    """Distance between a plain skinned mesh and the body model's.

    Args:
        person: The person.
        body: The body model.
        frames: Most frames, spread over the clip.

    Returns:
        (f, V) metres.
    """
    rows = np.unique(np.linspace(0, len(person) - 1, frames).astype(int))
    rotations, transl = torch.from_numpy(person.rotations[rows]), torch.from_numpy(person.transl_m[rows])
    betas = torch.from_numpy(person.betas).expand(len(rows), -1)
    joints, weights = skin_weights(body)
    dense = np.zeros(body.weights.shape)
    np.add.at(dense, (np.arange(len(dense))[:, None], joints), weights)
    plain = dataclasses.replace(body, posedirs=None, weights=torch.from_numpy(dense).to(body.dtype))
    return torch.linalg.norm(skin(body, rotations, betas, transl)[0] - skin(plain, rotations, betas, transl)[0], dim=-1).double().numpy()


class _Scene:
    """A growing glTF document: nodes, and one buffer to which all data are appended."""

    def __init__(self, gltf: Any) -> None:
        self._gltf = gltf
        self._document = gltf.GLTF2(asset=gltf.Asset(version="2.0", generator="mchmr-stream"))
        self._document.scene = 0
        self._document.scenes = [gltf.Scene(name="clip", nodes=[])]
        self._animation = gltf.Animation(name="clip", channels=[], samplers=[])
        self._blob = bytearray()

    def add_camera(self, camera: Intrinsics, picture_wh: tuple[int, int], scene_from_camera: Array) -> None:
        """Add the clip's camera."""
        width, height = picture_wh
        perspective = self._gltf.Perspective(
            yfov=2 * math.atan(height / (2 * camera.fy)), aspectRatio=width * camera.fy / (height * camera.fx), znear=NEAR_M
        )
        self._document.cameras.append(self._gltf.Camera(type="perspective", perspective=perspective, name="camera"))
        turn = quaternions_xyzw(scene_from_camera[None, None, :3, :3])[0, 0]
        self._root(self._node(name="camera", camera=0, translation=scene_from_camera[:3, 3].tolist(), rotation=turn.tolist()))

    def add_person(self, person: ExportedPerson, timeline: Timeline, body: BodyModel) -> None:
        """Add one skinned and animated person."""
        gltf, document = self._gltf, self._document
        name = f"person_{person.track_id}"
        offsets = person.rest_joints_m - person.rest_joints_m[[max(parent, 0) for parent in PARENTS]]
        offsets[0] = person.rest_joints_m[0]
        root = self._node(name=name, children=[])
        joints = [self._node(name=f"{joint}", translation=offset.tolist()) for joint, offset in zip(JOINT_NAMES, offsets, strict=True)]
        for joint, parent in enumerate(PARENTS):
            above = document.nodes[root if parent < 0 else joints[parent]]
            above.children = [*(above.children or []), joints[joint]]
        self._root(root)

        inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
        inverse_bind[:, :3, 3] = -person.rest_joints_m
        columns = np.ascontiguousarray(inverse_bind.transpose(0, 2, 1)).reshape(-1, 16)  # glTF stores matrices by columns
        document.skins.append(gltf.Skin(name=name, inverseBindMatrices=self._accessor(columns, "MAT4"), joints=joints, skeleton=root))
        self._add_mesh(person, body, name)
        document.meshes[-1].name = name
        self._root(self._node(name=f"{name}_skin", mesh=len(document.meshes) - 1, skin=len(document.skins) - 1))
        self._animate(person, timeline, root, joints)

    def _add_mesh(self, person: ExportedPerson, body: BodyModel, name: str) -> None:
        gltf, document = self._gltf, self._document
        vertices = rest_vertices_m(person, body)
        joints, weights = skin_weights(body)
        attributes = gltf.Attributes(
            POSITION=self._accessor(vertices.astype(np.float32), "VEC3", _VERTEX_DATA, bounds=True),
            NORMAL=self._accessor(mesh_normals(vertices, body.faces), "VEC3", _VERTEX_DATA),
            JOINTS_0=self._accessor(joints[:, :4], "VEC4", _VERTEX_DATA),
            WEIGHTS_0=self._accessor(weights[:, :4], "VEC4", _VERTEX_DATA),
            JOINTS_1=self._accessor(joints[:, 4:], "VEC4", _VERTEX_DATA),
            WEIGHTS_1=self._accessor(weights[:, 4:], "VEC4", _VERTEX_DATA),
        )
        faces = body.faces.reshape(-1, 1).astype(np.uint16 if len(vertices) < 2**16 - 1 else np.uint32)
        colour = [*linear_colour(person.track_id).tolist(), 1.0]
        roughness = gltf.PbrMetallicRoughness(baseColorFactor=colour, metallicFactor=0.0, roughnessFactor=0.7)
        document.materials.append(gltf.Material(name=name, pbrMetallicRoughness=roughness, alphaCutoff=None))
        primitive = gltf.Primitive(
            attributes=attributes, indices=self._accessor(faces, "SCALAR", _INDICES), material=len(document.materials) - 1, mode=4
        )
        document.meshes.append(gltf.Mesh(primitives=[primitive]))

    def _animate(self, person: ExportedPerson, timeline: Timeline, root: int, joints: list[int]) -> None:
        times = self._accessor(person.time_s.astype(np.float32)[:, None], "SCALAR", bounds=True)
        quaternions = quaternions_xyzw(person.rotations).astype(np.float32)
        self._channel(joints[0], "translation", times, self._accessor(person.pelvis_m.astype(np.float32), "VEC3"), "LINEAR")
        for joint, node in enumerate(joints):
            self._channel(node, "rotation", times, self._accessor(np.ascontiguousarray(quaternions[:, joint]), "VEC4"), "LINEAR")
        switches = timeline.switches(person.time_s)
        if any(not visible for _, visible in switches):
            at = self._accessor(np.array([[time_s] for time_s, _ in switches], np.float32), "SCALAR", bounds=True)
            size = self._accessor(np.array([[float(visible)] * 3 for _, visible in switches], np.float32), "VEC3")
            self._channel(root, "scale", at, size, "STEP")

    def save(self, path: Path) -> None:
        """Write the file."""
        document = self._document
        if self._animation.channels:
            document.animations.append(self._animation)
        document.buffers.append(self._gltf.Buffer(byteLength=len(self._blob)))
        document.set_binary_blob(bytes(self._blob))
        with path.open("wb") as file:
            for part in document.save_to_bytes():
                file.write(part)

    def _node(self, **fields: Any) -> int:
        self._document.nodes.append(self._gltf.Node(**fields))
        return len(self._document.nodes) - 1

    def _root(self, node: int) -> None:
        self._document.scenes[0].nodes.append(node)

    def _channel(self, node: int, path: str, times: int, values: int, interpolation: str) -> None:
        gltf, animation = self._gltf, self._animation
        animation.samplers.append(gltf.AnimationSampler(input=times, output=values, interpolation=interpolation))
        target = gltf.AnimationChannelTarget(node=node, path=path)
        animation.channels.append(gltf.AnimationChannel(sampler=len(animation.samplers) - 1, target=target))

    def _accessor(self, values: NDArray, kind: str, target: int | None = None, *, bounds: bool = False) -> int:
        gltf, document = self._gltf, self._document
        self._blob.extend(b"\0" * (-len(self._blob) % 4))
        content = np.ascontiguousarray(values).tobytes()
        document.bufferViews.append(gltf.BufferView(buffer=0, byteOffset=len(self._blob), byteLength=len(content), target=target))
        self._blob.extend(content)
        component = {"f4": _FLOAT, "u1": _UBYTE, "u2": _USHORT, "u4": _UINT}[values.dtype.str[1:]]
        accessor = gltf.Accessor(
            bufferView=len(document.bufferViews) - 1, byteOffset=0, componentType=component, count=len(values), type=kind
        )
        if bounds:
            accessor.min, accessor.max = values.min(0).tolist(), values.max(0).tolist()
        document.accessors.append(accessor)
        return len(document.accessors) - 1
