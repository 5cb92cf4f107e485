"""Names of cases: convert names in any script to distinct names that nnU-Net accepts."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]+")
#: the name of a letter in Unicode: LATIN SMALL LETTER SHARP S, GREEK CAPITAL LETTER ALPHA WITH TONOS
_LETTER = re.compile(r"(SMALL |CAPITAL )?LETTER (?:\w+ )*?(\w+)(?: WITH .*)?$")

#: a file's name has at most 255 bytes, and gets a channel, an ending and, while it is written, a prefix
_LONGEST = 180


def case_name(*parts: str) -> str:
    """Join the parts of a case's name; `safe_names` later replaces characters that nnU-Net doesn't accept."""
    # normalise accented letters, which some file systems store as two characters
    return unicodedata.normalize("NFC", "_".join(part for part in parts if part))


def transliterated(name: str) -> str:
    """Transliterate a name to ASCII letters, digits, `_` and `-`.

    Accents are removed, letters of other alphabets become their Unicode names, and other characters their numbers.
    """
    plain = "".join(_spelt(character) for character in unicodedata.normalize("NFKD", name))
    return _FORBIDDEN.sub("-", plain).strip("-")


def _spelt(character: str) -> str:
    if character.isascii():
        return character
    if unicodedata.combining(character):
        return ""
    if character.isdigit():
        return str(unicodedata.digit(character, ""))
    if not character.isalpha():
        return "-"
    found = _LETTER.search(unicodedata.name(character, ""))
    if not found:
        return f"u{ord(character):x}"
    return found[2].capitalize() if found[1] == "CAPITAL " else found[2].lower()


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Return name -> name that nnU-Net accepts; the new names are distinct, ignoring case.

    Names that would coincide are numbered in their order: `Müller` and `Muller` give `Muller` and `Muller-2`. Long names, such
    as those of deep folders or with spelt letters, are cut.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        wanted[transliterated(name)[:_LONGEST] or "case"].append(name)
    safe: dict[str, str] = {}
    used: set[str] = set()
    # unchanged names come first, so that no other name takes their place
    for plain in sorted(wanted):
        for name in sorted(wanted[plain], key=lambda n: (n != plain, n)):
            if name == plain and plain.lower() not in used:
                safe[name] = plain
                used.add(plain.lower())
    for plain in sorted(wanted):
        for name in sorted(wanted[plain]):
            if name in safe:
                continue
            number, candidate = 1, plain
            while candidate.lower() in used:
                number += 1
                candidate = f"{plain}-{number}"
            safe[name] = candidate
            used.add(candidate.lower())
    return safe
