"""Errors that a user meets. Each message is one clear line: what was got, what was expected, what to do next."""


class MchmrError(Exception):
    """Anything this package raises on purpose; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(MchmrError):
    """The request itself is wrong: an unknown setting, a missing argument, a value out of range."""

    exit_code = 2


class InputError(MchmrError):
    """A file or stream cannot be read at all, or holds nothing that can be used."""


class TruncatedInput(InputError):
    """The input broke off or was damaged; what decoded before was delivered."""


class MissingPart(MchmrError):
    """An optional package, weights file or body file is not there; the message says how to get it."""


class EncodingError(MchmrError):
    """Pictures cannot be encoded as wanted. Numbers are not concerned."""


class ServerError(MchmrError):
    """A server cannot be used, or did not come back in time; the message names it and what to do."""
