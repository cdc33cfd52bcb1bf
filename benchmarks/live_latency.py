"""How old are live results, and does that grow? A real-time source of 30 pictures a second, followed as `mchmr live` does.

    python benchmarks/live_latency.py CLIP [--minutes 10] [--sources 1]

CLIP is played in its own time, again and again. Prints the age of results against the time one of them takes to compute (sum of the
stages' medians, measured in the same run), the slope of the age, and memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import threading
import time
from pathlib import Path

import numpy as np

from mchmr_stream.config import load_settings
from mchmr_stream.live import LiveRun
from mchmr_stream.records import Moment

WARM_UP_S = 10.0


class Ages:
    """Keeps when each result was finished and how old it was; implements `protocols.LiveSink`."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []

    def write(self, moment: Moment) -> None:
        self.rows.append((time.monotonic(), moment.age_s))

    def close(self) -> None:
        """Nothing is open."""


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()

    settings = load_settings(None, ["live.restart=always", *args.overrides], defaults=["smoother.kind=causal"])
    ages, memory = Ages(), []
    with LiveRun([str(args.clip)] * args.sources, settings) as run:
        run.add_sink(ages)
        begun_s = time.monotonic()

        def watch() -> None:
            while time.monotonic() - begun_s < 60 * args.minutes + WARM_UP_S:
                time.sleep(1)
                memory.append((time.monotonic() - begun_s, resident_mib()))
            run.stop()

        threading.Thread(target=watch, daemon=True).start()
        statuses = run.run()
        stages = [run._followed[i].watch.seconds for i in range(args.sources)]

    rows = np.array([row for row in ages.rows if row[0] - begun_s > WARM_UP_S])
    seconds, age_s = rows[:, 0] - begun_s, rows[:, 1]
    work_s = statistics.mean(sum(statistics.median(values) for name, values in watch.items() if values) for watch in stages)
    p50, p99 = np.percentile(age_s, [50, 99])
    # The slope of the least-squares line, and its standard error from means of 10 s: single ages depend on each other.
    bins = (seconds // 10).astype(int)
    middle, means = np.array([(seconds[bins == b].mean(), age_s[bins == b].mean()) for b in np.unique(bins)]).T
    (slope, _), covariance = np.polyfit(middle, means, 1, cov=True)
    mib = np.array([value for at_s, value in memory if at_s > WARM_UP_S])
    tenth = max(1, len(mib) // 10)

    print(f"{platform.machine()}, {os.cpu_count()} cores; {args.clip.name}, {args.sources} source(s), {seconds[-1] - seconds[0]:.0f} s")
    for status in statuses:
        print(f"  {status.name}: {status.decoded} came, {status.finished} done, {status.dropped} dropped")
    print(f"results per second, all sources   {len(age_s) / (seconds[-1] - seconds[0]):8.1f}")
    print(f"computing one result              {1000 * work_s:8.1f} ms")
    print(f"age p50                           {1000 * p50:8.1f} ms   bound 2 x + 50 = {2000 * work_s + 50:.0f} ms")
    print(f"age p99                           {1000 * p99:8.1f} ms   bound 3 x + 100 = {3000 * work_s + 100:.0f} ms")
    print(f"slope of the age                  {60e3 * slope:8.2f} +- {60e3 * covariance[0, 0] ** 0.5:.2f} ms per minute")
    print(f"memory, second and last tenth     {mib[tenth : 2 * tenth].mean():8.1f}, {mib[-tenth:].mean():.1f} MiB")


if __name__ == "__main__":
    main()
