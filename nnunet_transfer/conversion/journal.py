"""Records of converted cases on disk, to resume an interrupted conversion and to compare a later run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from nnunet_transfer.conversion.record import Record
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import json_text, write_text

FILE_NAME = "conversion_records.jsonl"


def read_journal(folder: Path) -> list[Record]:
    """Return the records in a folder, without a truncated last line.

    Raises
    ------
    DataError
        If a line is not a record, because the file is damaged or an earlier version of this package has written it.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8") as stream:
            return [Record.from_json(json.loads(line)) for line in stream if line.endswith("\n")]
    except (ValueError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged, or of another version; give --overwrite to convert again") from None


def write_journal(folder: Path, records: Iterable[Record]) -> None:
    """Rewrite all records."""
    write_text(folder / FILE_NAME, "".join(_line(record) for record in records))


@contextmanager
def open_journal(folder: Path) -> Iterator[TextIO]:
    """Open the journal for `add_to_journal`."""
    with open(folder / FILE_NAME, "a", encoding="utf-8") as stream:
        yield stream


def add_to_journal(stream: TextIO, record: Record) -> None:
    """Append a record; it is on disk when this returns."""
    stream.write(_line(record))
    stream.flush()


def _line(record: Record) -> str:
    return json_text(record.to_json()) + "\n"
