"""Errors a user can fix: one sentence that says what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

#: half a character, which UTF-8 can't encode
_HALF = re.compile(r"[\ud800-\udfff]")
#: Python reads the byte 0x80 of a name that isn't UTF-8 as U+DC80, and so on (PEP 383)
_BYTES = range(0xDC80, 0xDD00)


class TransferError(Exception):
    """Base class of all errors caused by input, settings or the machine.

    The command line prints such an error as one line and exits with status 2. Control characters in the message are
    escaped, because a terminal could interpret them. Any other exception is a bug.
    """

    def __str__(self) -> str:
        # what a file holds may be quoted in the message, line breaks included
        return printable(" ".join(super().__str__().splitlines()))


@contextmanager
def renamed_in_errors(names: Mapping[Path, object]) -> Iterator[None]:
    """Replace paths of temporary files, which users don't know, in the message of an error.

    Parameters
    ----------
    names : temporary path -> what users know it by; of two paths, the inner one first
    """
    try:
        yield
    except TransferError as error:
        text = str(error)
        for path, name in names.items():
            text = text.replace(str(path), str(name))
        raise type(error)(text) from error


def printable(text: str) -> str:
    """Return `text` with control characters escaped, line breaks apart: files may hold any, and terminals obey some."""
    text = readable(text)
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def readable(text: str, backslash: str = "\\") -> str:
    """Return `text` with what UTF-8 can't encode escaped, such as the Latin-1 name `M\\xfcller`; nothing else changes."""

    def escaped(half: re.Match[str]) -> str:
        code = ord(half[0])
        return f"{backslash}x{code & 0xFF:02x}" if code in _BYTES else f"{backslash}u{code:04x}"

    return _HALF.sub(escaped, text)


def one_line(text: object, limit: int = 2000) -> str:
    """Return `text` without line breaks and, as `printable` does, control characters."""
    words = " ".join(str(text).split())
    return printable(words if len(words) <= limit else f"{words[:limit]}...")


class SettingsError(TransferError):
    """An environment variable, a path or an option is missing or wrong."""


class SourceError(TransferError):
    """A source is unknown, incomplete or was changed on disk."""


class CheckpointError(TransferError):
    """A weights file can't be read safely or has an unknown format."""


class AdaptationError(TransferError):
    """The weights don't fit the network, or too few of them do."""


class PlansError(TransferError):
    """Plans are missing or contradict what was asked for."""


class DataError(TransferError):
    """A data set, case or split is missing, damaged or inconsistent."""


class ComparisonError(TransferError):
    """Results can't be compared fairly: cases, folds or references differ or are missing."""


class StudyError(TransferError):
    """A study file is wrong, or one of its steps failed."""
