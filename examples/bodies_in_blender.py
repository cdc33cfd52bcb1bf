"""Bodies into Blender: everyone in a clip, with skeleton, mesh and camera.

    python examples/bodies_in_blender.py out/clip.npz        # as written by `mchmr video`: makes out/clip.glb

Where Blender's Python module is installed (`pip install bpy`), it goes on to out/clip.blend; elsewhere it prints how to import the file.
docs/blender.md puts the video behind the bodies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mchmr_stream

try:
    import bpy
except ImportError:
    bpy = None


def save_blend(glb: Path, fps: float) -> Path:
    """Import the .glb into an empty scene, look through the clip's camera, and save it."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = round(fps), round(fps) / fps  # before importing: Blender turns seconds into frames here
    bpy.ops.import_scene.gltf(filepath=str(glb))
    scene.camera = bpy.data.objects["camera"]
    blend = glb.with_suffix(".blend")
    bpy.ops.wm.save_as_mainfile(filepath=str(blend.resolve()))
    return blend


def main(bodies: Path) -> None:
    motion = mchmr_stream.load(bodies)
    (written,) = mchmr_stream.export_motion(motion, bodies.stem, "glb", bodies.parent, overwrite=True)
    print(f"{written.path}: people {', '.join(map(str, written.people))}, {written.frames} frames")
    if bpy is not None:
        print(save_blend(written.path, motion.fps))
    else:
        print("bpy is not installed. In Blender: File > Import > glTF 2.0, and choose this file; or, in its Scripting tab:")
        print(f'    import bpy; bpy.ops.import_scene.gltf(filepath=r"{written.path.resolve()}")')


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
