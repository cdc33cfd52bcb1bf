"""Universal Scene Description (.usd, the binary kind): all people in one stage as UsdSkel bodies, with the clip's camera. By usd-core.

Metres, y up, the camera at `scene_from_camera` (the origin, or above the floor of the world) looking along -z. One time code is one
frame of the processed clip (code = seconds * timeCodesPerSecond), with a fraction where a frame is off the even rate, so that times are
exact. Absent people are invisible (`visibility`). Skinning is linear; unlike in glTF, any number of joints may move a vertex. The
camera's principal point is kept (aperture offsets).
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.export.even_segments import Timeline
from mchmr_stream.export.glb import NEAR_M
from mchmr_stream.export.materials import linear_colour, mesh_normals
from mchmr_stream.export.optional_packages import needed
from mchmr_stream.export.person_motion import Array, ExportedPerson, rest_vertices_m
from mchmr_stream.export.rotation_curves import quaternions_xyzw
from mchmr_stream.geometry.camera import Intrinsics

_APERTURE = 36.0
"""Width of the film to which focal lengths refer. Only the ratio matters."""
_FAR_M = 1000.0


def write_usd(
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
        path: Ends in .usd, .usdc or .usda, by which the library chooses the encoding.
        people: The people.
        timeline: Frames and gaps.
        camera: The clip's camera.
        picture_wh: Width and height of the picture, px.
        body: The body model.
        scene_from_camera: (4, 4) pose of the camera.

    Raises:
        OSError: The disk is full or not writable.
    """
    needed("pxr", "usd-core", "USD")
    from pxr import Sdf, Tf, Usd

    try:
        stage = Usd.Stage.CreateNew(str(path))
        _fill(stage, people, timeline, camera, picture_wh, body, scene_from_camera)
        stage.GetRootLayer().Save()
    except Tf.ErrorException as error:  # its message is neither one line nor in plain words
        free = shutil.disk_usage(path.parent).free
        raise OSError(errno.EIO, f"usd-core failed, with {free / 2**20:.1f} MiB free on that disk") from error
    del stage
    assert Sdf.Layer.Find(str(path)) is None, "the file is closed"


def _fill(
    stage: Any,
    people: Sequence[ExportedPerson],
    timeline: Timeline,
    camera: Intrinsics,
    picture_wh: tuple[int, int],
    body: BodyModel,
    scene_from_camera: Array,
) -> None:
    from pxr import Gf, UsdGeom

    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(timeline.rate)
    stage.SetFramesPerSecond(timeline.rate)
    if len(timeline.times_s):
        stage.SetStartTimeCode(float(timeline.times_s[0]) * timeline.rate)
        stage.SetEndTimeCode(float(timeline.times_s[-1]) * timeline.rate)
    clip = UsdGeom.Xform.Define(stage, "/clip")
    stage.SetDefaultPrim(clip.GetPrim())

    width, height = picture_wh
    film = UsdGeom.Camera.Define(stage, "/clip/camera")
    focal = camera.fx * _APERTURE / width
    film.CreateFocalLengthAttr(focal)
    film.CreateHorizontalApertureAttr(_APERTURE)
    film.CreateVerticalApertureAttr(focal * height / camera.fy)
    film.CreateHorizontalApertureOffsetAttr(focal * ((width - 1) / 2 - camera.cx) / camera.fx)
    film.CreateVerticalApertureOffsetAttr(focal * (camera.cy - (height - 1) / 2) / camera.fy)
    film.CreateClippingRangeAttr(Gf.Vec2f(NEAR_M, _FAR_M))
    film.AddTransformOp().Set(Gf.Matrix4d(scene_from_camera.T.tolist()))  # USD's vectors are rows
    for person in people:
        _add_person(stage, person, timeline, body)


def _add_person(stage: object, person: ExportedPerson, timeline: Timeline, body: BodyModel) -> None:
    from pxr import Gf, Sdf, UsdGeom, UsdShade, UsdSkel, Vt

    name = f"/clip/person_{person.track_id}"
    root = UsdSkel.Root.Define(stage, name)
    for time_s, visible in timeline.switches(person.time_s):
        token = UsdGeom.Tokens.inherited if visible else UsdGeom.Tokens.invisible
        root.CreateVisibilityAttr().Set(token, time_s * timeline.rate)

    paths: list[str] = []
    for joint, parent in enumerate(PARENTS):
        paths.append(JOINT_NAMES[joint] if parent < 0 else f"{paths[parent]}/{JOINT_NAMES[joint]}")
    offsets = person.rest_joints_m - person.rest_joints_m[[max(parent, 0) for parent in PARENTS]]
    offsets[0] = person.rest_joints_m[0]
    moved = lambda position: Gf.Matrix4d().SetTranslate(Gf.Vec3d(*position.tolist()))
    skeleton = UsdSkel.Skeleton.Define(stage, f"{name}/skeleton")
    skeleton.CreateJointsAttr(paths)
    skeleton.CreateBindTransformsAttr(Vt.Matrix4dArray([moved(position) for position in person.rest_joints_m]))
    skeleton.CreateRestTransformsAttr(Vt.Matrix4dArray([moved(offset) for offset in offsets]))

    animation = UsdSkel.Animation.Define(stage, f"{name}/animation")
    animation.CreateJointsAttr(paths)
    animation.CreateScalesAttr(Vt.Vec3hArray(len(paths), Gf.Vec3h(1, 1, 1)))
    translations, rotations = animation.CreateTranslationsAttr(), animation.CreateRotationsAttr()
    quaternions = quaternions_xyzw(person.rotations).astype(np.float32)  # USD stores x, y, z, w as well
    translations_m = offsets.astype(np.float32)
    for row, time_s in enumerate(person.time_s):
        translations_m[0] = person.pelvis_m[row]
        code = float(time_s) * timeline.rate
        translations.Set(Vt.Vec3fArray.FromNumpy(translations_m), code)
        rotations.Set(Vt.QuatfArray.FromNumpy(quaternions[row]), code)

    vertices = rest_vertices_m(person, body)
    mesh = UsdGeom.Mesh.Define(stage, f"{name}/skin")
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(vertices.astype(np.float32)))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray(len(body.faces), 3))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(body.faces.reshape(-1).astype(np.int32)))
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(mesh_normals(vertices, body.faces)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([vertices.min(0), vertices.max(0)]).astype(np.float32)))
    colour = Gf.Vec3f(*linear_colour(person.track_id).tolist())
    mesh.CreateDisplayColorAttr(Vt.Vec3fArray([colour]))
    material = UsdShade.Material.Define(stage, f"{name}/colour")
    shader = UsdShade.Shader.Define(stage, f"{name}/colour/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(colour)
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.7)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)

    weights = body.weights.double().numpy()
    influences = int((weights > 0).sum(1).max())
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :influences]
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateJointIndicesPrimvar(False, influences).Set(Vt.IntArray.FromNumpy(joints.reshape(-1).astype(np.int32)))
    heavy = np.take_along_axis(weights, joints, 1)
    heavy /= heavy.sum(1, keepdims=True)
    binding.CreateJointWeightsPrimvar(False, influences).Set(Vt.FloatArray.FromNumpy(heavy.reshape(-1).astype(np.float32)))
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1.0))
    binding.CreateSkeletonRel().SetTargets([Sdf.Path(f"{name}/skeleton")])
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([Sdf.Path(f"{name}/animation")])
    UsdSkel.BindingAPI.Apply(root.GetPrim())
