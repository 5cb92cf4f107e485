"""Cross-validation folds that keep groups together and are balanced by site, lesion load and class."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from nnunet_transfer.conversion.record import Record
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.subjects import merge, merged_name
from nnunet_transfer.words import counted, shortened

GROUPINGS = ("subject", "site")
#: number of strata of lesion load; cases without lesions are a separate stratum
LOAD_QUANTILES = 4
#: the seed of nnU-Net's splits
SEED = 12345

Folds = list[dict[str, list[str]]]


def make_splits(records: Sequence[Record], folds: int = 5, group_by: str = "subject") -> tuple[Folds, list[str]]:
    """Split the training cases into folds.

    Returns
    -------
    splits : as in `splits_final.json`; empty if there is only one group
    warnings : warnings for the user

    Raises
    ------
    SettingsError
        If cases are grouped by site and a case has no site, or `folds` is below 2.
    """
    if folds < 2:
        raise SettingsError(f"{counted(folds, 'fold')} can't be made; give 2 or more")
    training = sorted((record for record in records if record.split == "train"), key=lambda record: record.case)
    groups = group_names(training, group_by)
    count = len(set(groups.values()))
    warnings = _subjects_of_several_sites(training) if group_by == "site" else []
    if count < 2:
        what = "sites that share subjects" if warnings else f"one {group_by}"
        return [], [*warnings, f"no splits: all training cases are of {what}"]
    if count < folds:
        warnings.append(f"{count} folds instead of {folds}: there are only {count} groups of cases")
        folds = count
    validation = deal(groups, strata_of(training), folds)
    cases = [record.case for record in training]
    return [
        {"train": [c for c in cases if validation[c] != fold], "val": [c for c in cases if validation[c] == fold]}
        for fold in range(folds)
    ], warnings


def _subjects_of_several_sites(records: Iterable[Record]) -> list[str]:
    """Return a warning about subjects that were scanned at several sites; empty if there are none."""
    sites: dict[str, set[str]] = defaultdict(set)
    for record in records:
        sites[record.subject].add(record.site)
    several = [f"{subject} ({', '.join(sorted(own))})" for subject, own in sites.items() if len(own) > 1]
    if not several:
        return []
    return [
        f"sites of one subject share a fold; {counted(len(several), 'subject')} at several: {shortened(several, 5)}"
    ]


def group_names(records: Iterable[Record], group_by: str) -> dict[str, str]:
    """Return case -> group. Cases with identical images belong to one group, regardless of their names.

    Sites that share a subject are one group, because a subject's cases never straddle folds.

    Raises
    ------
    SettingsError
        If cases are grouped by site and a case has no site.
    """
    groups: dict[str, str] = {}
    first_with: dict[tuple[str, str], str] = {}
    merged: dict[str, str] = {}
    for record in records:
        name = record.subject if group_by == "subject" else record.site
        if not name:
            raise SettingsError(f"case {record.case} has no site; take --group-by subject")
        groups[record.case] = name
        for shared in (("image", record.content or record.case), ("subject", record.subject)):
            merge(merged, name, first_with.setdefault(shared, name))
    return {case: merged_name(merged, name) for case, name in groups.items()}


def strata_of(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Return case -> names of its strata: site, lesion load and class."""
    loads = sorted(record.lesion_ml for record in records if record.lesion_ml)
    strata = {}
    for record in records:
        names = [f"site {record.site}"] if record.site else []
        if record.class_name:
            names.append(f"class {record.class_name}")
        if record.lesion_ml is not None:
            rank = sum(load <= record.lesion_ml for load in loads) if len(loads) < 2 else _rank(loads, record.lesion_ml)
            names.append(f"load {-(-rank * LOAD_QUANTILES // max(1, len(loads)))}")
        strata[record.case] = tuple(names)
    return strata


def _rank(loads: Sequence[float], load: float) -> int:
    from bisect import bisect_right

    return bisect_right(loads, load)


def deal(groups: Mapping[str, str], strata: Mapping[str, Sequence[str]], folds: int) -> dict[str, int]:
    """Return case -> the fold that validates it.

    Groups are assigned from the largest to the smallest, each to the fold with the fewest cases of its strata so far, as
    shares of the strata, and the fewest cases in total. An empty fold has no cost, so with at least as many groups as folds
    no fold stays empty.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for case in sorted(groups):
        members[groups[case]].append(case)
    if len(members) < folds:
        raise DataError(f"{counted(len(members), 'group')} of cases can't be split into {folds} folds")
    totals = Counter(name for case in groups for name in strata.get(case, ()))
    order = sorted(members)
    random.Random(SEED).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))
    held: list[Counter[str]] = [Counter() for _ in range(folds)]
    sizes = [0] * folds
    fold_of: dict[str, int] = {}
    for group in order:
        own = Counter(name for case in members[group] for name in strata.get(case, ()))

        def cost(fold: int, own: Counter[str] = own, size: int = len(members[group])) -> tuple[float, int]:
            shared = sum(held[fold][name] * n / totals[name] for name, n in own.items())
            return shared + (1 + len(own) / size) * sizes[fold] * size / len(groups), fold

        best = min(range(folds), key=cost)
        held[best] += own
        sizes[best] += len(members[group])
        fold_of |= dict.fromkeys(members[group], best)
    return fold_of
