"""Measure the cost of the page's clients: results per second and their age with none, one and five, and with one that stalls.

    python benchmarks/live_page.py CLIP [--rounds 4] [--seconds 8]

CLIP is played in real time in a loop. Clients are programs in a separate process that receive each scene at once and draw nothing: a
browser's drawing is not measured, and would run on another machine in practice. Each round measures all cases; ratios are to the case
without clients in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from websockets.sync.client import connect

from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import Moment
from mchmr_stream.live.run import LiveRun
from mchmr_stream.web.access import PageAccess
from mchmr_stream.web.live_page import LivePage

WARM_UP_S = 10.0
CASES = {"nobody": 0, "1 watcher": 1, "5 watchers": 5, "1 who stalls": -1}


class Ages:
    """Records the time and the age of each result; implements `protocols.LiveSink`."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []

    def write(self, moment: Moment) -> None:
        self.rows.append((time.monotonic(), moment.age_s))

    def close(self) -> None:
        """Do nothing."""


def watch(url: str, stalls: bool) -> None:
    """Receive scenes until the end; a stalling client receives none."""
    with connect(url.replace("http", "ws", 1) + "watch", max_size=None) as socket:
        scenes = 0
        for message in socket:
            while stalls:
                time.sleep(1)
            # the first binary message is the body
            if isinstance(message, bytes):
                scenes += 1
                if scenes > 1:
                    socket.send(json.dumps({"kind": "shown"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--watch", nargs=2, metavar=("URL", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.watch:
        url, count = args.watch[0], int(args.watch[1])
        threads = [threading.Thread(target=watch, args=(url, count < 0), daemon=True) for _ in range(abs(count))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return

    settings = load_settings(None, ["live.restart=always", *args.overrides], defaults=["smoother.kind=causal"])
    ages = Ages()
    measured: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    with LiveRun([str(args.clip)], settings) as run:
        page = LivePage(run, PageAccess("127.0.0.1", 0, None))
        run.add_sink(page)
        run.add_sink(ages)
        running = threading.Thread(target=run.run)
        running.start()
        time.sleep(WARM_UP_S)
        for _ in range(args.rounds):
            for case, count in CASES.items():
                watching = None
                if count:
                    watching = subprocess.Popen([sys.executable, __file__, str(args.clip), "--watch", page.url, str(count)])
                    while not page.server.watchers:
                        time.sleep(0.1)
                time.sleep(1)
                begun_s = time.monotonic()
                time.sleep(args.seconds)
                mine = [age_s for at_s, age_s in list(ages.rows) if at_s >= begun_s]
                measured[case].append((len(mine) / (time.monotonic() - begun_s), statistics.median(mine)))
                if watching is not None:
                    watching.kill()
                    watching.wait()
                    while page.server.watchers:
                        time.sleep(0.1)
        run.stop()
        running.join()

    live = settings.live
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; {args.clip.name}; at most {live.page_fps:g} pictures a second of {live.page_px} px"
    )
    print("| watchers | results per second | ratio to nobody (least, most) | median age ms |")
    print("|---|---|---|---|")
    for case, rounds in measured.items():
        ratios = [mine[0] / alone[0] for mine, alone in zip(rounds, measured["nobody"], strict=True)]
        rate, age_s = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"| {case} | {rate:.1f} | {statistics.median(ratios):.3f} ({min(ratios):.3f}, {max(ratios):.3f}) | {1000 * age_s:.0f} |")


if __name__ == "__main__":
    main()
