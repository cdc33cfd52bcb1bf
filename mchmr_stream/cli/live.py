"""`mchmr live SOURCE...`: process cameras and streams in real time."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mchmr_stream.cli import live_outputs
from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.number_types import seconds
from mchmr_stream.cli.video import add_settings_arguments
from mchmr_stream.errors import UsageError
from mchmr_stream.files.output_lock import claimed
from mchmr_stream.files.same_file import colliding, refuse_to_replace
from mchmr_stream.motion.output_paths import plain_name

if TYPE_CHECKING:
    from mchmr_stream.config import Settings
    from mchmr_stream.live.run import LiveRun, SourceStatus
    from mchmr_stream.protocols import LiveSink
    from mchmr_stream.web.live_page import LivePage

log = logging.getLogger(__name__)

STATUS_EVERY_S = 5.0
DEFAULTS = ["smoother.kind=causal"]
"""Settings of a live run that differ from those of files: no stage uses later frames."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "live",
        help="bodies from cameras and streams, in real time",
        description="Process cameras and streams. The newest picture is processed next and older ones are dropped, so that the delay does "
        "not grow.",
        epilog=examples("mchmr live 0", "mchmr live rtsp://192.168.1.20/stream --json - --npz out"),
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="a camera (0, /dev/video0), rtsp://, http(s):// (MJPEG, HLS), udp://, a file played in real time, or lavfi:GRAPH",
    )  # fmt: skip
    outputs = parser.add_argument_group("outputs", "any of them; docs/output.md describes the formats")
    outputs.add_argument(
        "--json",
        action="append",
        default=[],
        metavar="WHERE",
        help="JSON lines: - (standard output), a file, or tcp://HOST:PORT to listen on",
    )
    outputs.add_argument("--npz", type=Path, metavar="DIR", help="bodies as .npz files of --segment seconds")
    outputs.add_argument("--no-page", action="store_true", help="serve no web page")
    outputs.add_argument("--segment", type=seconds(), default=60.0, metavar="S", help="length of each .npz file in seconds (60)")
    live_outputs.add_arguments(outputs)
    parser.add_argument("--seconds", type=seconds(), metavar="S", help="stop after S seconds")
    add_settings_arguments(parser)
    quick = parser.add_argument_group("shorthands", "each stands for one setting; `mchmr config` lists all settings")
    for option, setting, kind, value, text in SHORTHANDS:
        quick.add_argument(option, type=kind, metavar=value, help=f"{text} ({setting})")
    parser.set_defaults(run=run)


SHORTHANDS: tuple[tuple[str, str, Callable[[str], object], str, str], ...] = (
    ("--views", "crops.views", int, "N", "crops of each person, fewer is faster"),
    ("--interval", "detector.interval", int, "N", "run the detector on each N-th frame"),
    ("--device", "runtime.device", str, "NAME", "auto, cpu, cuda or cuda:N"),
    ("--max-people", "tracker.max_people", int, "N", "keep only the N largest people"),
    ("--fov", "camera.fov_deg", float, "DEG", "horizontal field of view in degrees"),
    ("--size", "live.size", str, "WxH", "camera: picture size, as in 1280x720"),
    ("--fps", "live.fps", float, "N", "camera: pictures per second"),
    ("--pixel-format", "live.pixel_format", str, "NAME", "camera: mjpeg, yuyv422, ..."),
    ("--page", "live.page", str, "HOST:PORT", "address of the web page"),
    ("--restart", "live.restart", str, "WHEN", "never, on-error or always"),
    ("--target-age", "live.target_age_s", float, "S", "reduce the work per frame while results are older than S seconds"),
)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.config import load_settings

    given = {setting: getattr(args, option.removeprefix("--").replace("-", "_")) for option, setting, *_ in SHORTHANDS}
    shorthands = [f"{setting}={json.dumps(value)}" for setting, value in given.items() if value is not None]
    settings = load_settings(args.config, [*shorthands, *args.overrides], defaults=DEFAULTS)
    files = _checked_outputs(args, settings)
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.live.run import LiveRun

    with claimed(files), StopOnSignals() as stop, LiveRun(args.sources, settings) as live:
        for sink in _sinks(args, live):
            live.add_sink(sink)
        if not args.no_page and (page := open_page(live, args.quiet)) is not None:
            live.add_sink(page)
        over = threading.Event()
        watcher = threading.Thread(target=stop_when_due, args=(live, stop.event, over, args.seconds, args.quiet), daemon=True)
        watcher.start()
        try:
            ends = live.run()
        finally:
            over.set()
            watcher.join()
        if not args.quiet:
            _print_status(live, ends)
    if stop.exit_code is not None:
        return stop.exit_code
    return 1 if any(end.error is not None for end in ends) else 0


def _sinks(args: argparse.Namespace, live: LiveRun) -> list[LiveSink]:
    from mchmr_stream.runtime.host_port import HostPort
    from mchmr_stream.sinks.json_lines import JsonLinesSink
    from mchmr_stream.sinks.json_tcp import JsonTcpSink
    from mchmr_stream.sinks.npz_segments import NpzSegments

    sinks: list[LiveSink] = []
    for where in args.json:
        if where.startswith("tcp://"):
            try:
                place = HostPort.parse(where.removeprefix("tcp://"), "tcp://127.0.0.1:9000", default_host="127.0.0.1")
            except ValueError as error:
                raise UsageError(f"--json: {error}") from error
            sinks.append(JsonTcpSink(place.host, place.port))
        else:
            sinks.append(JsonLinesSink(where))
    if args.npz is not None:
        sinks.append(NpzSegments(args.npz, args.segment, names=live.pipeline.names(), settings=live.settings.model_dump(mode="json")))
    return [*sinks, *live_outputs.sinks(args, live)]


def _checked_outputs(args: argparse.Namespace, settings: Settings) -> list[Path]:
    """The files that are written from the start.

    Raises UsageError if an input would be overwritten, or two outputs would write the same file.
    """
    from mchmr_stream.config import files_named
    from mchmr_stream.live.run import addresses_of
    from mchmr_stream.sources.playlists import files_listed

    names = [plain_name(address.name) for address in addresses_of(args.sources, settings)]
    records = [where.replace("{source}", name) for where in args.record for name in (names if "{source}" in where else names[:1])]
    files = [
        Path(where)
        for where in (*args.json, *records, *([args.rerun] if (args.rerun or "").endswith(".rrd") else []))
        if where != "-" and "://" not in where
    ]
    listed = [file for source in args.sources for file in files_listed(Path(source))]
    refuse_to_replace([*args.sources, *listed, args.config, *files_named(settings)], files, "choose another name")
    if (twice := colliding(files)) is not None:
        first, second = (files[place] for place in twice)
        raise UsageError(f"{second} would be written twice" + (f", also as {first}" if first != second else "") + "; choose two names")
    return [file for file in files if file.is_file() or not file.exists()]


def open_page(live: LiveRun, quiet: bool) -> LivePage | None:
    """Add the page to the run, where the settings have one."""
    from dataclasses import replace

    from mchmr_stream.config import LiveSettings
    from mchmr_stream.web.access import PageAccess
    from mchmr_stream.web.live_page import LivePage

    access = PageAccess.of(live.settings.live)
    if access is None:
        return None
    try:
        page = LivePage(live, access)
    except UsageError as error:
        if live.settings.live.page != LiveSettings().page:
            raise
        page = LivePage(live, replace(access, port=0))  # the port was the default and is in use: use a free one
        log.warning("%s", error)
    if not quiet or access.token is not None:  # the user needs the URL for its token
        print(f"mchmr: page at {page.url}", file=sys.stderr)
    return page


def stop_when_due(live: LiveRun, stop: threading.Event, over: threading.Event, seconds: float | None, quiet: bool) -> None:
    """Stop the run on request, and log its state at intervals."""
    began_s = printed_s = time.monotonic()
    while not over.wait(0.1):
        now_s = time.monotonic()
        if stop.is_set() or (seconds is not None and now_s - began_s >= seconds):
            live.stop()
            return
        if not quiet and now_s - printed_s >= STATUS_EVERY_S:
            printed_s = now_s
            _print_status(live, live.status())


def _print_status(live: LiveRun, statuses: list[SourceStatus]) -> None:
    now = live.adjust.now
    for status in statuses:
        state = "" if status.connected else ", not connected"
        relief = f", {now.crops.views} views, detector on each frame of {now.detector.interval}" if live.adjust.relief else ""
        print(
            f"mchmr: {status.name}: {status.fps:.1f} per second, age {1000 * status.age_p50_s:.0f} ms (p99 {1000 * status.age_p99_s:.0f}), "
            f"{status.people} people, {status.finished} done, {status.dropped} dropped, {status.reconnects} reconnects{state}{relief}",
            file=sys.stderr,
        )
