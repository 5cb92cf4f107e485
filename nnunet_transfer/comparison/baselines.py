"""Which arm each arm is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from nnunet_transfer.comparison.results import Arm, Run
from nnunet_transfer.comparison.settings import DEFAULT_BASELINE
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.naming import TrainerName

#: settings in which the arms of a learning curve differ, those of a curve over the length of training, and several recipes
CASES, LENGTH, RECIPE = ("cases",), ("epochs", "iterations"), ("recipe",)
#: setting that says whether a training mirrors
MIRRORING = ("no_mirroring",)
#: setting that says what an arm loads
LOADING = ("encoder_only",)
_DEFAULTS = {field.name: field.default for field in fields(TrainerName)}


def family(arm: Arm, settings: Sequence[str]) -> str:
    """Return the arm's name without some settings: arms that differ in nothing else have the same.

    Parameters
    ----------
    settings : fields of `TrainerName`
    """
    return arm.name.replace(str(arm.trainer), _without(arm, settings), 1)


def families(arms: Iterable[Arm], settings: Sequence[str]) -> list[list[Arm]]:
    """Return groups of arms that differ in these settings only, in the order of their first member."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        groups.setdefault(family(arm, settings), []).append(arm)
    return list(groups.values())


def family_title(arm: Arm, settings: Sequence[str]) -> str:
    """Return the arm's title without some settings of its trainer."""
    title, _, suffix = arm.title.partition(" (")
    suffix, _, mark = suffix.partition(")")
    removed = set(str(arm.trainer).split("_")) - set(_without(arm, settings).split("_"))
    kept = [part for part in suffix.split(", ") if part and part not in removed]
    return (f"{title} ({', '.join(kept)})" if kept else title) + mark


def _without(arm: Arm, settings: Sequence[str]) -> str:
    defaults: dict[str, Any] = {name: _DEFAULTS[name] for name in settings}
    return str(replace(arm.trainer, **defaults))


def choose_baselines(runs: Sequence[Run], wanted: str, dataset: str) -> dict[Arm, Arm]:
    """Return, for each arm that takes part in the main comparison, the arm it is compared with.

    If the baseline is given without suffixes and was trained with several recipes or lengths, each arm is compared with the
    baseline of its own recipe, and of its own length of training if there is one, otherwise with the longest, which has to be
    longer. An arm that no baseline fits is compared with the one that has no suffixes, if that was trained. An arm without
    mirroring is compared with the baseline without mirroring, if there is one. A name that states the default recipe stands for
    that one alone.
    From a learning curve, only the arms trained on all cases are compared or, if there are none, those with the most cases.
    A single arm is its own baseline.

    Raises
    ------
    ComparisonError
        If there is no such baseline, or none with the recipe of an arm and at least its length.
    """
    chosen = _chosen(runs, wanted, dataset)
    if any(wanted in _base_names(baseline) for baseline in chosen.values()):
        return {arm: _mirroring_alike(arm, baseline, chosen) for arm, baseline in chosen.items()}
    return chosen


def _chosen(runs: Sequence[Run], wanted: str, dataset: str) -> dict[Arm, Arm]:
    arms = list(dict.fromkeys(r.arm for r in runs))
    exact = list(dict.fromkeys(run.arm for run in runs if wanted in _full_names(run)))
    alike = [arm for arm in arms if wanted in _base_names(arm)]
    # a recipe or length is a setting of all arms; what an arm loads, and whether it mirrors, are compared with the plain arm
    alike = [arm for arm in alike if not (arm.trainer.encoder_only or arm.trainer.no_mirroring)] or alike
    found = alike if _has_variants(alike, arms) else exact or alike
    if len(arms) == 1 and (found or wanted == DEFAULT_BASELINE):
        return {arms[0]: arms[0]}
    names = ", ".join(arm.name for arm in arms)
    if not found:
        # the arms are those that were asked for, if some were
        raise ComparisonError(
            f"{dataset}: the baseline {wanted} was not trained or is not among the arms asked for; choose one with --baseline: "
            f"{names}"
        )
    # of a learning curve, the baselines on numbers of cases that another arm has, too
    shared = _shared(found, arms) or _shared(alike, arms) or found
    most = max((arm.trainer.cases for arm in shared), key=_number)
    found = [arm for arm in shared if arm.trainer.cases == most]
    compared = [arm for arm in arms if arm.trainer.cases == most]
    if len(found) == 1:
        return dict.fromkeys(compared, found[0])
    plain = [arm for arm in exact if arm.trainer.cases == most]
    fitting = {arm: _fitting(arm, found) or (plain[0] if len(plain) == 1 else None) for arm in compared}
    lonely = next((arm for arm, baseline in fitting.items() if baseline is None), None)
    if lonely or len({_suffix(arm) for arm in found}) < len(found):
        reason = f", and none has the recipe and at least the length of {lonely.name}" if lonely else ""
        raise ComparisonError(
            f"{dataset}: the baseline {wanted} fits several arms{reason}; choose one with --baseline: {names}"
        )
    return {arm: baseline for arm, baseline in fitting.items() if baseline}


def baselines_of_all(arms: Sequence[Arm], baselines: Mapping[Arm, Arm]) -> dict[Arm, Arm]:
    """Return, for each arm, its baseline with the same number of training cases; arms without one are left out.

    Parameters
    ----------
    baselines : of the arms in the main comparison, see `choose_baselines`
    """
    chosen = {family(arm, CASES): family(baseline, CASES) for arm, baseline in baselines.items()}
    pairs = {}
    for arm in arms:
        own = chosen.get(family(arm, CASES))
        alike = [b for b in arms if b.trainer.cases == arm.trainer.cases and family(b, CASES) in chosen.values()]
        alike = [b for b in alike if own in (None, family(b, CASES))]
        pairs[arm] = alike[0] if len(alike) == 1 else _fitting(arm, alike)
    return {arm: baseline for arm, baseline in pairs.items() if baseline}


def longest(arm: Arm, arms: Sequence[Arm]) -> Arm:
    """Return the longest training among the arms that differ from `arm` only in length."""
    alike = [other for other in arms if family(other, LENGTH) == family(arm, LENGTH)]
    return max(alike, key=lambda other: other.trainer.total_iterations)


def _mirroring_alike(arm: Arm, baseline: Arm, arms: Iterable[Arm]) -> Arm:
    """Return the baseline without mirroring for another arm without it; otherwise `baseline`."""
    if not arm.trainer.no_mirroring or family(arm, MIRRORING) == family(baseline, MIRRORING):
        return baseline
    alike = [b for b in arms if b.trainer.no_mirroring and family(b, MIRRORING) == family(baseline, MIRRORING)]
    return alike[0] if alike else baseline


def _base_names(arm: Arm) -> tuple[str, ...]:
    """Return the names that stand for an arm with all its suffixes."""
    return arm.trainer.base, f"{arm.trainer.base}@{arm.source}"


def _full_names(run: Run) -> tuple[str, ...]:
    """Return the names that stand for a run's arm alone, or for one of its seeds."""
    return run.trainer, f"{run.trainer}@{run.arm.source}", run.arm.name, _with_recipe(run.arm)


def _has_variants(alike: Sequence[Arm], arms: Sequence[Arm]) -> bool:
    """Whether these are one arm with several recipes or lengths, and there are other arms to compare with them."""
    suffixes = {_suffix(arm) for arm in alike}
    return len(suffixes) == len(alike) < len(arms) and len({arm.source for arm in alike}) == 1


def _with_recipe(arm: Arm) -> str:
    """Return the name of the arm's trainer with its recipe, also if that is the default."""
    return _without(arm, RECIPE).replace(arm.trainer.base, f"{arm.trainer.base}_{arm.trainer.recipe}", 1)


def _shared(baselines: Sequence[Arm], arms: Sequence[Arm]) -> list[Arm]:
    """Return the baselines with a number of training cases that an arm other than these has, too."""
    others = {arm.trainer.cases for arm in arms if arm not in baselines}
    return [baseline for baseline in baselines if baseline.trainer.cases in others]


def _fitting(arm: Arm, baselines: Sequence[Arm]) -> Arm | None:
    """Return the baseline with the arm's suffixes or, if none has them, the longest that differs only in being longer.

    Baselines from scratch load nothing, so they fit arms that load an encoder only, too. For an arm without mirroring that no
    baseline fits, those with mirroring count.
    """
    exact = [b for b in baselines if _suffix(b) == _suffix(arm)]
    equal = [b for b in baselines if _suffix(b, LOADING) == _suffix(arm, LOADING)]
    least, without = arm.trainer.total_iterations, (*LENGTH, *LOADING)
    longer = [
        b for b in baselines if _suffix(b, without) == _suffix(arm, without) and b.trainer.total_iterations >= least
    ]
    fitting = max(exact or equal or longer, key=lambda b: b.trainer.total_iterations, default=None)
    if fitting is None and arm.trainer.no_mirroring:
        return _fitting(replace(arm, trainer=replace(arm.trainer, no_mirroring=False)), baselines)
    return fitting


def _suffix(arm: Arm, without: Sequence[str] = ()) -> str:
    return _without(arm, without).removeprefix(arm.trainer.base)


def _number(cases: int | None) -> float:
    """Return a number of training cases for sorting; None means all."""
    return float("inf") if cases is None else cases
