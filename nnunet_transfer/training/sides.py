"""Labels that differ only by their side: a mirrored left structure looks like the right one. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: words for a side and its counterpart; single letters count only if both sides are named
_OTHER_SIDE = {"left": "right", "right": "left", "lh": "rh", "rh": "lh", "l": "r", "r": "l"}
_SURE = ("left", "right", "lh", "rh")


def lateralised(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels whose names state their side.

    Examples
    --------
    >>> lateralised(["background", "Left-Hippocampus", "ctx-rh-cuneus", "amygdala_L", "amygdala_R", "class L"])
    ('Left-Hippocampus', 'ctx-rh-cuneus', 'amygdala_L', 'amygdala_R')
    """
    labels = list(labels)
    words = {label: tuple(word.lower() for word in _WORDS.findall(label)) for label in labels}
    known = set(words.values())
    return tuple(
        label
        for label in labels
        if any(
            word in _SURE or (word in _OTHER_SIDE and _replaced(words[label], i, _OTHER_SIDE[word]) in known)
            for i, word in enumerate(words[label])
        )
    )


def _replaced(words: tuple[str, ...], place: int, word: str) -> tuple[str, ...]:
    return (*words[:place], word, *words[place + 1 :])
