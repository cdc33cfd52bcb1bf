"""A video to bodies, in a loop and as files.

    python examples/video_to_bodies.py clip.mp4 out

The loop prints every person of every frame. The second run writes out/clip.npz (every number), out/clip.mp4 (the bodies over the
picture) and out/clip.json (the report). A real program needs one of the two.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import mchmr_stream


def main(video: Path, out: Path) -> None:
    settings = mchmr_stream.load_settings(overrides=["crops.views=2"])  # fewer views are faster; `mchmr config` explains all settings
    with closing(mchmr_stream.Pipeline(settings)) as pipeline:  # loads the networks, once for both runs
        for scene in mchmr_stream.stream(video, pipeline=pipeline):
            bodies = scene.bodies
            for person, track_id in enumerate(bodies.track_id):
                x_m, y_m, z_m = scene.joints_m[person, 0]  # the pelvis, camera axes: x right, y down, z forward
                print(
                    f"{scene.frame.time_s:6.2f} s  person {track_id}  pelvis {x_m:+.2f} {y_m:+.2f} {z_m:+.2f} m  "
                    f"pose {bodies.body_pose[person].shape}  shape {bodies.betas[person].shape}"
                )

        result = mchmr_stream.process_video(video, out, pipeline=pipeline, overwrite=True)
    motion = mchmr_stream.load(result.npz)
    for track in motion.tracks.values():
        print(f"{result.npz}: person {track.track_id}, {len(track)} frames from {track.time_s[0]:.2f} to {track.time_s[-1]:.2f} s")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
