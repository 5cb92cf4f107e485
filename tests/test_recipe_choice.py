"""The recipe of an arm is chosen on other folds than the one it is scored on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.baselines import RECIPE, families
from nnunet_transfer.comparison.recipe_choice import choose_recipe, recipe_table
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.naming import TrainerName

RECIPES = ("full", "adamw", "fitted")
SETTINGS = CompareSettings(draws=200)


def _arm(base: str, recipe: str) -> Arm:
    trainer = TrainerName(base, recipe)
    return Arm(str(trainer), base, trainer)


SCRATCH = [_arm("nnUNetTrainerScratch", recipe) for recipe in RECIPES]
T1 = [_arm("nnUNetTrainerT1Segmentation", recipe) for recipe in RECIPES[1:]]


def _scores(values: dict[str, np.ndarray], folds: int) -> Scores:
    """Values of shape (subjects,) per arm; subject i is in fold i % folds."""
    column = next(iter(values.values()))
    rows = pd.DataFrame(
        {"arm": arm, "case": f"c{i}", "subject": f"s{i}", "fold": i % folds, "dice": value, "seed": 0}
        for arm, scores in values.items()
        for i, value in enumerate(scores)
    )
    sizes = {fold: sum(i % folds == fold for i in range(len(column))) for fold in range(folds)}
    per_case = rows.drop(columns="seed")
    return Scores(
        per_case, per_case.drop(columns="case"), rows.drop(columns="case"), dict.fromkeys(range(folds), 6), sizes
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_folds_own_scores_never_change_its_recipe(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = {arm.name: rng.random(12) for arm in SCRATCH}
    before = choose_recipe(_scores(values, 4).per_case, SCRATCH, "dice")
    fold = int(rng.integers(4))
    for column in values.values():
        column[fold::4] = rng.random(3)
    assert choose_recipe(_scores(values, 4).per_case, SCRATCH, "dice")[fold] == before[fold]


@pytest.mark.parametrize("seed", range(5))
def test_the_table_agrees_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = {arm.name: rng.random(12) for arm in (*SCRATCH, *T1)}
    baselines = dict.fromkeys((*SCRATCH, *T1), SCRATCH[0])
    table = recipe_table(_scores(values, 4), [*SCRATCH, *T1], baselines, "dice", SETTINGS).set_index("title")
    composed = {}
    for members in (SCRATCH, T1):
        scores = np.empty(12)
        for i in range(12):
            others = [j for j in range(12) if j % 4 != i % 4]
            best = max(members, key=lambda arm: values[arm.name][others].mean())
            scores[i] = values[best.name][i]
        composed[members[0].title] = scores
        assert table.loc[members[0].title, "dice"] == pytest.approx(scores.mean())
    difference = composed[T1[0].title] - composed[SCRATCH[0].title]
    assert table.loc[T1[0].title, "difference"] == pytest.approx(difference.mean())
    assert np.isnan(table.loc[SCRATCH[0].title, "difference"])


def test_two_versions_of_a_source_are_two_arms_not_two_recipes() -> None:
    versions = [
        replace(arm, name=f"{arm.name}@{version}", title=f"{arm.title} [{version}]")
        for version in ("0a1b2c3d", "4e5f6a7b")
        for arm in T1
    ]
    rng = np.random.default_rng(0)
    arms = [*SCRATCH, *versions]
    values = {arm.name: rng.random(12) for arm in arms}
    table = recipe_table(_scores(values, 4), arms, dict.fromkeys(arms, SCRATCH[0]), "dice", SETTINGS)
    assert list(table["title"]) == [SCRATCH[0].title, versions[0].title, versions[2].title]
    for group in (versions[:2], versions[2:]):
        alone = recipe_table(_scores(values, 4), [*SCRATCH, *group], dict.fromkeys(arms, SCRATCH[0]), "dice", SETTINGS)
        row, expected = (t.set_index("title").loc[group[0].title] for t in (table, alone))
        assert row["recipes"] == expected["recipes"]
        assert row["dice"] == pytest.approx(expected["dice"])
        assert row["difference"] == pytest.approx(expected["difference"])


def test_choosing_among_equal_recipes_gives_no_advantage() -> None:
    """The best of three by its own score is biased upwards; the choice on other folds isn't."""
    rng = np.random.default_rng(0)
    own, chosen = [], []
    for _ in range(200):
        values = {arm.name: rng.normal(0.5, 0.1, 8) for arm in SCRATCH}
        own.append(max(column.mean() for column in values.values()))
        picked = choose_recipe(_scores(values, 4).per_case, SCRATCH, "dice")
        chosen.append(np.mean([values[picked[i % 4].name][i] for i in range(8)]))
    assert np.mean(own) > 0.52
    assert np.mean(chosen) < 0.51


def test_scratch_alone_has_a_row_and_no_difference() -> None:
    values = {arm.name: np.linspace(0, 1, 6) for arm in SCRATCH}
    table = recipe_table(_scores(values, 3), SCRATCH, dict.fromkeys(SCRATCH, SCRATCH[0]), "dice", SETTINGS)
    assert list(table["recipes"]) == ["full (3)"], "of equals, the first"
    assert table["difference"].isna().all()


def test_one_recipe_or_one_fold_gives_no_table() -> None:
    values = {arm.name: np.linspace(0, 1, 6) for arm in SCRATCH}
    assert recipe_table(_scores(values, 3), SCRATCH[:1], {SCRATCH[0]: SCRATCH[0]}, "dice", SETTINGS).empty
    assert recipe_table(_scores(values, 1), SCRATCH, dict.fromkeys(SCRATCH, SCRATCH[0]), "dice", SETTINGS).empty
    assert [len(group) for group in families([*SCRATCH, *T1], RECIPE)] == [3, 2]


def test_a_seed_that_stands_out_widens_the_interval_of_the_recipe_that_has_it() -> None:
    values = {arm.name: np.linspace(0.5, 0.6, 12) + 0.1 * i for i, arm in enumerate([*SCRATCH, *T1])}
    arms = [*SCRATCH, *T1]

    def covered(*unsteady: str) -> list[object]:
        table = recipe_table(_scores(values, 3), arms, dict.fromkeys(arms, SCRATCH[0]), "dice", SETTINGS, unsteady)
        return table["headline"].dropna().tolist()

    # the last recipe of each arm is the best in every fold
    assert covered(T1[0].name) == covered() == ["these networks"]
    assert covered(T1[-1].name) == covered(SCRATCH[-1].name) == ["trainings vary"]
