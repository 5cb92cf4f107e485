"""Which of several networks in a file to use, by the prefixes of their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nnunet_transfer.sources.keys import canonical_key

#: names in prefixes, in order of preference: MoCo's query encoder, which learns by gradient, and DINO's better teacher
_PREFERRED = ("encoder_q", "base_encoder", "teacher", "backbone", "encoder", "model")
_SHOWN = 5


def prefixes_of(keys: Iterable[str], anchor: re.Pattern[str]) -> set[str]:
    """Return the prefixes of all networks in a file: what stands before a key that each network has, `anchor`'s first group."""
    return {match[1] for key in keys if (match := anchor.match(canonical_key(key)))}


def preferred(prefixes: Iterable[str]) -> str:
    """Return the prefix of the network to use, of equally good ones the shortest; empty if there are none."""
    return min(prefixes, key=_rank, default="")


def note_on_others(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return a note that names the networks which `preferred` leaves out; empty if there are none."""
    used, *others = sorted(set(prefixes), key=_rank) or [""]
    if not others:
        return ()
    names = [prefix.rstrip(".") or "no prefix" for prefix in (used, *others[:_SHOWN])]
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return (f"the file holds several networks: the one under {names[0]} is loaded, not {', '.join(names[1:])}{more}",)


def _rank(prefix: str) -> tuple[int, int, str]:
    words = prefix.split(".")
    place = next((i for i, word in enumerate(_PREFERRED) if word in words), len(_PREFERRED))
    return place, len(prefix), prefix
