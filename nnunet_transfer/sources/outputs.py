"""The names of a network's outputs, so that a target can reuse the heads of labels with the same names.

A card stores them in `extra["outputs"]`: groups of names in the order of the network's outputs. A group with `background`,
which nnU-Net puts first, is a softmax over classes; any other group consists of regions. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: key of a card's `extra`
OUTPUTS = "outputs"
BACKGROUND = "background"
_LABEL_SETS = "label_sets"


def output_groups(dataset_json: Mapping[str, Any]) -> list[list[str]]:
    """Return the output names of nnU-Net's network for a data set; a pooled data set has several groups."""
    if _LABEL_SETS in dataset_json:
        return [[BACKGROUND, *map(str, own)] for own in dataset_json[_LABEL_SETS].values()]
    labels = {str(name): value for name, value in dataset_json["labels"].items() if name != "ignore"}
    if any(isinstance(value, list | tuple) and len(value) > 1 for value in labels.values()):
        return [[name for name, value in labels.items() if value not in (0, [0], (0,))]]
    numbers = {name: int(value[0] if isinstance(value, list | tuple) else value) for name, value in labels.items()}
    return [sorted(numbers, key=lambda name: numbers[name])]


def stated_groups(extra: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of output names in a card's `extra`, which may come from anyone; empty if they are malformed."""
    groups = extra.get(OUTPUTS)
    if not isinstance(groups, list | tuple) or not all(isinstance(group, list | tuple) for group in groups):
        return ()
    # an empty group has no outputs, so that leaving it out moves no other
    named = tuple(tuple(group) for group in groups if group)
    return named if all(isinstance(name, str) for group in named for name in group) else ()


def label_names(dataset_json: Mapping[str, Any], labels: Sequence[int]) -> tuple[str, ...]:
    """Return the names of label values; `label 3` if no name belongs to this value alone, as with regions."""
    names = {value: str(name) for name, value in dataset_json["labels"].items() if isinstance(value, int)}
    return tuple(names.get(value, f"label {value}") for value in labels)


@dataclass(frozen=True)
class Match:
    """Matching outputs of a target and a source: index in the target -> index in the source."""

    indices: Mapping[int, int]
    names: tuple[str, ...]


def match_outputs(source: Sequence[Sequence[str]], target: Sequence[str]) -> Match | None:
    """Match outputs of the target to one group of the source by name, ignoring case, blanks, - and _.

    With several groups, the one with most matches is used. Return None if nothing but the background matches, or if one is a
    softmax over classes and the other has regions, because their weights have different meanings.
    """
    best: Match | None = None
    first = 0
    for group in source:
        if group and (_plain(group[0]) == BACKGROUND) == (_plain(target[0]) == BACKGROUND):
            known = {_plain(name): first + i for i, name in enumerate(group)}
            indices = {i: known[_plain(name)] for i, name in enumerate(target) if _plain(name) in known}
            names = tuple(target[i] for i in indices if _plain(target[i]) != BACKGROUND)
            if names and (best is None or len(names) > len(best.names)):
                best = Match(indices, names)
        first += len(group)
    return best


def match_classes(source: Sequence[Sequence[str]], target: Sequence[str]) -> Match | None:
    """Match outputs as `match_outputs` does, but a background only if it is no larger in the target than in the source.

    Where the target lacks labels of the source, their voxels are background there: the source's output for its own background
    says nothing about them.
    """
    match = match_outputs(source, target)
    if match is None:
        return None
    here = set(map(_plain, target))
    first = 0
    for group in source:
        if (
            first in match.indices.values()
            and _plain(group[0]) == BACKGROUND
            and not here.issuperset(map(_plain, group))
        ):
            return Match({i: j for i, j in match.indices.items() if j != first}, match.names)
        first += len(group)
    return match


def _plain(name: str) -> str:
    # ER+ is not ER-
    return "".join(c for c in name.casefold() if c.isalnum() or c == "+")
