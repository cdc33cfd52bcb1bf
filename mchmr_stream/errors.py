"""Errors that a user meets. Each message is one clear line: the value received, the value expected, and what to do next."""


class MchmrError(Exception):
    """Base of all errors that this package raises on purpose. The command line prints the message without a traceback."""

    exit_code = 1
    """Exit status of the command line."""


class UsageError(MchmrError):
    """The request is wrong: an unknown setting, a missing argument, a value out of range."""

    exit_code = 2
    """Exit status of the command line."""


class InputError(MchmrError):
    """A file or stream cannot be read, or holds nothing usable."""


class TruncatedInput(InputError):
    """The input is incomplete or damaged; all frames that could be decoded were delivered before."""


class MissingPart(MchmrError):
    """An optional package, weights file or body file is missing; the message says how to get it."""


class EncodingError(MchmrError):
    """Pictures cannot be encoded as requested. Numeric results are not affected."""


class ServerError(MchmrError):
    """A server cannot be used, or did not respond in time; the message names it and what to do."""
