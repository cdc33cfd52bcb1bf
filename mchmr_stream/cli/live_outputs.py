"""Outputs of `mchmr live` that may be slow or unreachable: background writers, which never delay the pipeline."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mchmr_stream.live.run import LiveRun
    from mchmr_stream.protocols import LiveSink


def add_arguments(group: argparse._ActionsContainer) -> None:
    group.add_argument("--mqtt", metavar="URL", help="a JSON line per result to a broker: mqtt://HOST[:PORT][/PREFIX], or mqtts://")
    group.add_argument("--osc", metavar="HOST:PORT", help="OSC messages over UDP, for game engines; docs/live.md lists the addresses")
    group.add_argument(
        "--record", metavar="WHERE", action="append", default=[],
        help="the picture with the bodies over it: FILE.mp4, rtmp://, rtsp://; {source} and {time} are replaced",
    )  # fmt: skip
    group.add_argument(
        "--rerun", metavar="WHERE", nargs="?", const="viewer",
        help="pictures and bodies to the Rerun viewer, which is started; or FILE.rrd, or rerun+http://HOST:PORT/proxy",
    )  # fmt: skip


def sinks(args: argparse.Namespace, live: LiveRun) -> list[LiveSink]:
    """Create the requested outputs.

    Raises:
        UsageError: an address is not valid.
        MissingPart: a package is not installed.
    """
    from mchmr_stream.sinks.background import BackgroundSink

    requested: list[LiveSink] = []
    if args.mqtt is not None:
        from mchmr_stream.sinks.mqtt import MqttSink

        mqtt = MqttSink(args.mqtt, live.settings.mqtt)
        requested.append(BackgroundSink(mqtt, mqtt.name, size=2))
    if args.osc is not None:
        from mchmr_stream.sinks.osc import OscSink

        osc = OscSink(args.osc)
        requested.append(BackgroundSink(osc, osc.name, size=2))
    for where in args.record:
        from mchmr_stream.sinks.video_recording import VideoRecordingSink

        record = VideoRecordingSink(where, len(args.sources))
        requested.append(BackgroundSink(record, record.name, size=8, patience_s=15.0))
    if args.rerun is not None:
        from mchmr_stream.sinks.rerun_live import RerunLiveSink

        rerun = RerunLiveSink(args.rerun, [status.name for status in live.status()])
        requested.append(BackgroundSink(rerun, rerun.name, size=4, patience_s=15.0))
    return requested
