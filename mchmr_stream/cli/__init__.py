"""Command line: `mchmr COMMAND`. One file per command; each has `add_parser(subparsers)` and `run(args) -> int`.

Heavy modules are imported only when a command runs, so that help appears at once. Exit codes: 0 done, 1 something failed, 2 invalid
arguments, 130, 143 and 129 stopped by Ctrl-C, SIGTERM and SIGHUP.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from mchmr_stream import __version__
from mchmr_stream.cli import (
    ablate,
    average,
    bench,
    data,
    demo,
    doctor,
    evaluate,
    export,
    export_model,
    gst_path,
    import_weights,
    live,
    print_config,
    serve,
    smooth,
    synth,
    tracks,
    train,
    video,
)
from mchmr_stream.cli.help_text import HelpFormatter, examples
from mchmr_stream.cli.standard_streams import make_usable, output_failure
from mchmr_stream.errors import MchmrError, UsageError
from mchmr_stream.runtime.malloc import keep_freed_memory

COMMANDS = (
    video,
    live,
    demo,
    tracks,
    smooth,
    export,
    print_config,
    doctor,
    bench,
    evaluate,
    synth,
    data,
    train,
    average,
    ablate,
    import_weights,
    export_model,
    serve,
    gst_path,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None: the process's own.

    Returns:
        The exit code.
    """
    make_usable()
    code = _run(argv)
    failure = output_failure()
    if failure is None:
        return code
    return 1 if isinstance(failure, BrokenPipeError) else _report(_unwritable(failure), 1)


def _run(argv: Sequence[str] | None) -> int:
    try:
        parser = build_parser()
        if not (sys.argv[1:] if argv is None else argv):
            parser.print_help()
            return 0
        args = parser.parse_args(argv)
    except UsageError as error:
        return _report(error, error.exit_code)
    except SystemExit as done:  # argparse exits this way after --help and --version
        return int(done.code or 0)
    with _messages(args):
        try:
            keep_freed_memory()
            return int(args.run(args))
        except MchmrError as error:
            return _report(error, error.exit_code, args.debug)
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # the reader of the pipe (head, less) has closed it
            return 1
        except OSError as error:
            failure = output_failure()
            return _report(_in_words(error, args) if failure is None else _unwritable(failure), 1, args.debug)


def _unwritable(failure: OSError) -> MchmrError:
    return MchmrError(f"cannot write to standard output: {failure.strerror or failure}")


def _in_words(error: OSError, args: argparse.Namespace) -> MchmrError:
    """An operating system error as a message without its number, with the output's name if the error has no file (as for a full disk)."""
    what = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        return MchmrError(f"{os.fsdecode(error.filename)}: {what}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MchmrError(f"cannot write {getattr(args, 'out', None) or 'the output'}: {what}")
    return MchmrError(what)


class _Parser(argparse.ArgumentParser):
    """A parser that accepts -v, -q and --debug before and after the command's name, and reports errors in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **kwargs})
        # SUPPRESS: a default of the command's parser would overwrite an option given before the command's name.
        self.add_argument(
            "-v", "--verbose", action="count", default=argparse.SUPPRESS, help="print more messages; twice: also debug messages"
        )
        self.add_argument("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="print errors only")
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="print the traceback of an error")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` explains")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mchmr",
        description="Video in, everyone in it as 3D bodies out.",
        epilog=examples("mchmr video clip.mp4 -o out", "mchmr video --help", "mchmr demo"),
    )
    parser.add_argument("--version", action="version", version=f"mchmr {__version__}", help="print the version and exit")
    parser.set_defaults(verbose=0, quiet=False, debug=False)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def _report(error: BaseException, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exception(error)
    with suppress(OSError):  # standard error may be full or closed, too
        print(f"mchmr: {' '.join(str(error).split())}", file=sys.stderr)
    return code


class _OneLine(logging.Handler):
    """Log handler for the current sys.stderr, so that a progress bar can stay below the messages."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"mchmr: {record.levelname.lower()}: {self.format(record)}", file=sys.stderr)


@contextmanager
def _messages(args: argparse.Namespace) -> Iterator[None]:
    """Print log records and warnings as single lines on stderr, filtered by -v and -q."""
    level = logging.ERROR if args.quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(args.verbose, 2)]
    logger = logging.getLogger("mchmr_stream")
    handler, level_before = _OneLine(), logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            if not args.debug:
                warnings.showwarning = lambda message, *_, **__: logger.warning("%s", " ".join(str(message).split()))
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)
