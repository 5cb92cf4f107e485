"""Limits on the content of a file, and the errors for files that exceed them."""

from __future__ import annotations

#: memory in bytes and processor time in seconds that reading may take
MEMORY_LIMIT = 2 << 30
SECONDS_LIMIT = 25
#: size of a file's program in bytes and in instructions. A network with its optimiser has about 100 thousand instructions, and
#: nnU-Net logs a number per class and epoch, each of which takes 14
MAX_PROGRAM = 64 << 20
MAX_OPERATIONS = 20_000_000
#: entries of one mapping or list; the largest networks have some thousand tensors
MAX_ENTRIES = 100_000
#: objects in a file, each counted once per reference
MAX_PARTS = 1_000_000
MAX_CHARACTERS = 32 << 20
MAX_DEPTH = 64
MAX_INTEGER_BYTES = 16
MAX_AXES = 16
#: sizes and strides of a tensor; torch counts its bytes in 63 bits
MAX_NUMBER = 1 << 48
MAX_ARRAY = 10_000
#: bytes of all tensors, per byte of the file: nnU-Net has 4 names for a tensor, and a file may hold several state dicts of
#: one network; smaller files count as if they had this many bytes
MAX_NAMES = 16
SMALL_FILE = 1 << 20
#: bytes of a zip file's list of members, about 80 per member
MAX_ZIP_DIRECTORY = 32 << 20
#: characters of a key after renaming
MAX_KEY = 1000


class DamagedError(Exception):
    """The file is not a complete weights file."""


class RefusedError(Exception):
    """The file contains something that no network has; the text follows the file's name."""


class UnknownNameError(Exception):
    """The file names a function or class that weights don't need."""
