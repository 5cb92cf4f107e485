"""How much a file may describe, and the reasons for not reading it."""

from __future__ import annotations

#: bytes of memory, and seconds of processor time, that reading may take
MEMORY_LIMIT = 2 << 30
SECONDS_LIMIT = 25
#: of a file's program in bytes and in instructions; a network with its optimiser has some 100 thousand
MAX_PROGRAM = 64 << 20
MAX_OPERATIONS = 5_000_000
#: of the entries of one mapping or list; the largest networks have some thousand tensors
MAX_ENTRIES = 100_000
#: of all that a file describes, each thing counted as often as it is referred to
MAX_PARTS = 1_000_000
MAX_CHARACTERS = 32 << 20
MAX_DEPTH = 64
MAX_INTEGER_BYTES = 16
MAX_AXES = 16
#: of a tensor's sizes and strides, whose bytes torch counts in 63 bits
MAX_NUMBER = 1 << 48
MAX_ARRAY = 10_000
#: bytes of a zip file's list of members, some 80 each
MAX_ZIP_DIRECTORY = 32 << 20
#: characters of a key after renaming
MAX_KEY = 1000


class DamagedError(Exception):
    """The file is not a weights file, or not all of one."""


class RefusedError(Exception):
    """The file describes what no network has; the text goes after its name."""


class UnknownNameError(Exception):
    """The file names what weights don't need."""
