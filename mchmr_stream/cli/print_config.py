"""`mchmr config`: print all settings in effect with their descriptions, as YAML for `--config`."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING

from mchmr_stream.cli.help_text import examples

if TYPE_CHECKING:
    from mchmr_stream.config import Settings

_WIDTH = 110


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    from mchmr_stream.cli.video import add_settings_arguments

    parser = subparsers.add_parser(
        "config",
        help="print all settings and what they mean",
        description="Print the settings in force as commented YAML.",
        epilog=examples("mchmr config > mine.yaml", "mchmr config --set smoother.strength=2"),
    )
    add_settings_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.config import load_settings

    print(settings_yaml(load_settings(args.config, args.overrides)), end="")
    return 0


def settings_yaml(settings: Settings) -> str:
    """Format all settings as YAML, each below its description. `load_settings` of the text gives the same settings."""
    values = settings.model_dump(mode="json")
    lines = ["# All settings of mchmr-stream. A file for --config needs only those that differ from the defaults."]
    for section_name, field in type(settings).model_fields.items():
        section = field.annotation
        assert section is not None  # all fields of Settings are sections
        lines += ["", *_comment(section.__doc__ or "", 0), f"{section_name}:"]
        for name, setting in section.model_fields.items():
            lines += _comment(setting.description or "", 2)
            # JSON is valid YAML, and keeps each value on one line and each string quoted.
            lines.append(f"  {name}: {json.dumps(values[section_name][name], ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: int) -> list[str]:
    lead = " " * indent + "# "
    return textwrap.wrap(" ".join(text.split()), _WIDTH, initial_indent=lead, subsequent_indent=lead)
