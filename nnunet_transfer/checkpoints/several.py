"""Which of several networks in a file to use, by the prefixes of their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nnunet_transfer.sources.keys import canonical_key
from nnunet_transfer.words import shortened

#: names in prefixes, in order of preference: MoCo's query encoder, which learns by gradient, and DINO's better teacher
_PREFERRED = ("encoder_q", "base_encoder", "teacher", "backbone", "encoder", "model")
#: words in prefixes of averaged weights, which stand beside the network that learns
_AVERAGES = re.compile(r"(^|[._])(ema|swa)(?=[._]|$)")
_SHOWN = 5


def prefixes_of(keys: Iterable[str], anchor: re.Pattern[str]) -> set[str]:
    """Return the prefixes of all networks in a file: what stands before a key that each network has, `anchor`'s first group."""
    return {match[1] for key in keys if (match := anchor.match(canonical_key(key)))}


def preferred(prefixes: Iterable[str]) -> str:
    """Return the prefix of the network to use, of equally good ones the shortest; empty if there are none."""
    return min(prefixes, key=_rank, default="")


def note_on_others(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return a note that names the networks which `preferred` leaves out; empty if there are none."""
    used, *others = (prefix.rstrip(".") or "no prefix" for prefix in sorted(set(prefixes), key=_rank) or [""])
    return note_on_others_than(used, others)


def note_on_others_than(used: str, others: Sequence[str]) -> tuple[str, ...]:
    """Return a note that names the network that is loaded and those that aren't; empty if there are no others."""
    if not others:
        return ()
    return (f"the file holds several networks: the one under {used} is loaded, not {shortened(others, _SHOWN)}",)


def _rank(prefix: str) -> tuple[bool, int, int, str]:
    words = prefix.split(".")
    place = next((i for i, word in enumerate(_PREFERRED) if word in words), len(_PREFERRED))
    return bool(_AVERAGES.search(prefix)), place, len(prefix), prefix
