"""One row per arm whose recipe was chosen without looking at the fold it is scored on.

An arm is trained with several recipes. Each fold is scored with the recipe that has the highest mean over the subjects of
the *other* folds. The networks of the other folds were trained on this fold's cases, so this is not a full nested
cross-validation, but no case is scored with a recipe that its own score helped to choose.

The control is the baseline, with its recipe chosen in the same way. The control is strictest if the baseline was trained with
the same number of recipes.

References
----------
Tsamardinos, Greasidou and Borboudakis (2018), "Bootstrapping the out-of-sample predictions for efficient and accurate
cross-validation", Machine Learning 107, doi:10.1007/s10994-018-5714-4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.baselines import RECIPE, families, family_title
from nnunet_transfer.comparison.paired import paired_table
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings


@dataclass(frozen=True)
class Choice:
    """The recipe that each fold of an arm is scored with.

    Attributes
    ----------
    arm : the arm, regardless of its recipe
    recipes : fold -> one of the arm's members
    """

    arm: Arm
    recipes: Mapping[int, Arm]


def choose_recipe(per_case: pd.DataFrame, members: Sequence[Arm], metric: str) -> dict[int, Arm]:
    """Return, for each fold, the member with the highest mean over subjects of the other folds; ties go to the first.

    Parameters
    ----------
    per_case : one row per arm and case, with `arm`, `subject`, `fold` and the metric; at least two folds
    """
    rows = per_case[per_case["arm"].isin([arm.name for arm in members])]
    # a case without a value in one recipe is left out for all recipes
    wide = rows.pivot_table(index=["fold", "subject", "case"], columns="arm", values=metric, dropna=False).dropna()
    subjects = wide.groupby(level=["fold", "subject"]).mean()
    folds = subjects.index.get_level_values("fold")
    chosen = {}
    for fold in sorted(set(rows["fold"])):
        means = subjects[folds != fold].mean()
        chosen[int(fold)] = max(members, key=lambda arm: float(means[arm.name]))
    return chosen


def recipe_table(
    scores: Scores,
    arms: Sequence[Arm],
    baselines: Mapping[Arm, Arm],
    metric: str,
    settings: CompareSettings,
    unsteady: Collection[str] = (),
) -> pd.DataFrame:
    """Return one row per arm with its recipe chosen on other folds, compared with its baseline treated in the same way.

    Parameters
    ----------
    baselines : arm -> its baseline, whose group is the control
    unsteady : arms with a seed that stands out

    Returns
    -------
    table : empty if no arm has several recipes, or if there is one fold only
    """
    groups = families(arms, RECIPE)
    if all(len(group) < 2 for group in groups) or scores.per_case["fold"].nunique() < 2:
        return pd.DataFrame()
    choices = {id(group): _choice(scores.per_case, group, metric) for group in groups}
    controls = {id(group): next(g for g in groups if baselines[group[0]] in g) for group in groups}
    per_case, per_subject, per_run = (
        pd.concat([_composed(rows, choice) for choice in choices.values()], ignore_index=True)
        for rows in (scores.per_case, scores.per_subject, scores.per_run)
    )
    composed = Scores(per_case, per_subject, per_run, scores.train_sizes, scores.test_sizes)
    pairs = [
        (choices[id(group)].arm, choices[id(controls[id(group)])].arm)
        for group in groups
        if controls[id(group)] is not group
    ]
    odd = {c.arm.name for c in choices.values() if not {arm.name for arm in c.recipes.values()}.isdisjoint(unsteady)}
    tests = paired_table(composed, pairs, [metric], settings, unsteady=odd)
    means = per_subject.groupby("arm")[metric].mean()
    table = pd.DataFrame(
        {
            "arm": choice.arm.name,
            "title": choice.arm.title,
            "recipes": _listed(choice.recipes),
            metric: means[choice.arm.name],
        }
        for choice in choices.values()
    )
    wanted = [
        *("compared_with", "n_cases", "n_subjects", "n_informative", "difference", "low", "high"),
        *("headline_low", "headline_high", "headline", "p"),
    ]
    tests = tests[["arm", *wanted]] if len(tests) else pd.DataFrame({"arm": []}).assign(**dict.fromkeys(wanted, np.nan))
    return table.merge(tests, on="arm", how="left")


def _choice(per_case: pd.DataFrame, members: Sequence[Arm], metric: str) -> Choice:
    first = members[0]
    stands_for = replace(first, name=f"{first.name}, recipe chosen", title=family_title(first, RECIPE))
    return Choice(stands_for, choose_recipe(per_case, members, metric))


def _composed(rows: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Return each fold's rows of the member chosen for it, under the name of the arm."""
    parts = [rows[(rows["arm"] == arm.name) & (rows["fold"] == fold)] for fold, arm in choice.recipes.items()]
    return pd.concat(parts).assign(arm=choice.arm.name)


def _listed(recipes: Mapping[int, Arm]) -> str:
    """Return `fitted (3), adamw (1)`: the number of folds for which each recipe was chosen; other trainers have their own."""
    counts = Counter(arm.trainer.recipe or "its own" for arm in recipes.values()).most_common()
    return ", ".join(f"{recipe} ({number})" for recipe, number in counts)
