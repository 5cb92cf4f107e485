"""The head of a model card: the lines between two `---` at the start of a README, as Hugging Face reads them.

Only the syntax of typical heads is parsed: `key: value`, and lists of `- value`. Everything else is skipped. Each line is
read once, so that malicious input can't slow parsing down.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_text

#: maximum number of bytes to read from a model card
MAX_MODEL_CARD = 4 << 20
_FENCE = "---"


def read_head(file: Path) -> Mapping[str, tuple[str, ...]]:
    """Return key -> values from the head of a model card; empty if there is no card or no head."""
    try:
        return head_of(read_text(file, limit=MAX_MODEL_CARD))
    except DataError:
        return {}


def head_of(text: str) -> dict[str, tuple[str, ...]]:
    """Return key -> values from the head of a model card's text."""
    lines = iter(text.removeprefix("\ufeff").split("\n"))
    if next(lines).rstrip() != _FENCE:
        return {}
    stated: dict[str, list[str]] = {}
    open_list: list[str] | None = None
    for line in lines:
        if line.rstrip() == _FENCE:
            return {key: tuple(values) for key, values in stated.items()}
        content = line.strip()
        if open_list is not None and content.startswith("- "):
            open_list.append(_unquoted(content[2:]))
        elif content and line[0] not in " \t#-":
            name, colon, value = content.partition(":")
            open_list = None
            if colon:
                values = stated[name.strip()] = _values(value.strip())
                open_list = None if value.strip() else values
    # without a second fence it is text
    return {}


def licence_of(stated: Mapping[str, tuple[str, ...]]) -> str:
    """Return the licence in a head; for the licence `other`, its name."""
    licence = "".join(stated.get("license", ())[:1])
    return "".join(stated.get("license_name", ())[:1]) or licence if licence == "other" else licence


def _values(text: str) -> list[str]:
    if text.startswith("[") and text.endswith("]"):
        return [value for part in text[1:-1].split(",") if (value := _unquoted(part))]
    return [_unquoted(text)] if text else []


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
