"""Run by a Python with bpy: blender_reader.py FILE FPS WIDTH HEIGHT FRAME...

Prints JSON: where Blender has the bones' heads and the skin's vertices in every frame, and how wide its camera looks.
"""

from __future__ import annotations

import json
import math
import sys

import bpy

path, (fps, width, height), frames = sys.argv[1], map(float, sys.argv[2:5]), [float(frame) for frame in sys.argv[5:]]
bpy.ops.wm.read_factory_settings(use_empty=True)
render = bpy.context.scene.render
render.fps, render.resolution_x, render.resolution_y = round(fps), round(width), round(height)
if path.endswith(".glb"):
    bpy.ops.import_scene.gltf(filepath=path)
elif path.endswith(".bvh"):
    bpy.ops.import_anim.bvh(filepath=path, axis_forward="-Z", axis_up="Y")
else:
    bpy.ops.wm.usd_import(filepath=path)
(armature,) = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"]
skins = [thing for thing in bpy.data.objects if thing.type == "MESH" and thing.find_armature() is not None]
joints, vertices = [], []
for frame in frames:
    bpy.context.scene.frame_set(math.floor(frame), subframe=frame % 1)
    joints.append({bone.name: list(armature.matrix_world @ bone.head) for bone in armature.pose.bones})
    posed = [skin.evaluated_get(bpy.context.evaluated_depsgraph_get()) for skin in skins]
    vertices.append([list(skin.matrix_world @ vertex.co) for skin in posed for vertex in skin.data.vertices])
edges = [max(camera.view_frame(scene=bpy.context.scene), key=lambda corner: corner.x) for camera in bpy.data.cameras]
cameras = [2 * math.degrees(math.atan(edge.x / -edge.z)) for edge in edges]
print(json.dumps({"joints_m": joints, "vertices_m": vertices, "field_of_view_deg": cameras[0] if cameras else None}))
