"""`mchmr gst-path`: print the folder for GST_PLUGIN_PATH, with which GStreamer finds the element `mchmr`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mchmr_stream.cli.help_text import examples

PLUGINS = Path(__file__).resolve().parents[1] / "gstreamer" / "plugins"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "gst-path",
        help="print the folder for GST_PLUGIN_PATH",
        description='Print the folder of the GStreamer plugin: export GST_PLUGIN_PATH="$(mchmr gst-path)". See docs/gstreamer.md.',
        epilog=examples('export GST_PLUGIN_PATH="$(mchmr gst-path)"'),
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    print(PLUGINS)
    return 0
