"""A camera, live: who is where now, and how old that answer is.

    python examples/webcam.py 0                      # the first camera; also rtsp://..., http://..., or a file at its own speed

The newest picture is always processed first and older ones are dropped, so the age does not grow. Ctrl-C ends it.
"""

from __future__ import annotations

import sys

import mchmr_stream


class PrintNewest:
    """A live sink: `write` is called with each result as soon as it is finished. It must be quick, because the next one waits."""

    def write(self, moment: mchmr_stream.Moment) -> None:
        scene = moment.scene
        people = [
            f"person {track_id} {joints_m[0, 2]:.2f} m away"
            for track_id, joints_m in zip(scene.bodies.track_id, scene.joints_m, strict=True)
        ]
        print(
            f"{scene.frame.time_s:7.2f} s  {1000 * moment.age_s:4.0f} ms old  {moment.dropped} dropped  {', '.join(people) or 'nobody'}",
            flush=True,
        )

    def close(self) -> None:
        """Nothing is open."""


def main(source: str) -> None:
    settings = mchmr_stream.load_settings("fast")  # one view, fewer fit iterations: for results that are young
    with mchmr_stream.LiveRun([source], settings) as run:
        run.add_sink(PrintNewest())
        try:
            status = run.run()  # until the source ends
        except KeyboardInterrupt:
            return
    for each in status:
        print(f"{each.name}: {each.finished} results, median age {1000 * each.age_p50_s:.0f} ms, {each.error or 'ended'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
