"""Arms trained for several lengths: studies that ask for them, the baselines they have, and what the comparison says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.comparison.analysis import TargetResult, analyse
from nnunet_transfer.comparison.baselines import baselines_of_all, choose_baselines
from nnunet_transfer.comparison.curves import learning_curves, reached, training_lengths
from nnunet_transfer.comparison.results import Arm, Run, short_titles
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.wording import length_sentences
from nnunet_transfer.errors import ComparisonError, StudyError
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.naming import ARMS, parse_trainer_name
from nnunet_transfer.study.reading import read_study
from nnunet_transfer.study.short import write_smoke_study
from tests.score_tables import random_study
from tests.test_spread import SETTINGS, N, scores_of, usual, with_folds

SCRATCH, T1 = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"


def titled(arm: Arm) -> Arm:
    """Return the arm with a title as in reports."""
    suffix = arm.name.removeprefix(arm.trainer.base).strip("_").replace("_", ", ")
    return replace(arm, title=f"{'T1 segmentation' if arm.source else 'Scratch'} ({suffix})")


def runs_of(*trainers: str) -> list[Run]:
    parsed = [parse_trainer_name(name) for name in trainers]
    arms = [titled(Arm(str(t), "", t, ARMS[t.base])) for t in parsed]
    return [Run(arm, None, Path(f"/nowhere/{arm.name}__plans__2d"), "plans", "2d") for arm in arms]


def pairs(*trainers: str, wanted: str = SCRATCH) -> dict[str, str]:
    """Return arm -> baseline, by name."""
    chosen = choose_baselines(runs_of(*trainers), wanted, "Dataset901_Made")
    return {arm.name: baseline.name for arm, baseline in chosen.items()}


def test_a_shorter_training_is_compared_with_the_baseline_of_its_recipe() -> None:
    scratch = [f"{SCRATCH}_adamw_32epochs", f"{SCRATCH}_32epochs"]
    found = pairs(*scratch, f"{T1}_4epochs", f"{T1}_adamw_8epochs")
    assert found == {
        **{name: name for name in scratch},
        f"{T1}_4epochs": f"{SCRATCH}_32epochs",
        f"{T1}_adamw_8epochs": f"{SCRATCH}_adamw_32epochs",
    }


def test_equal_lengths_are_compared_and_otherwise_the_longest_is_the_baseline() -> None:
    found = pairs(f"{SCRATCH}_8epochs", f"{SCRATCH}_32epochs", f"{T1}_8epochs", f"{T1}_4epochs")
    assert found[f"{T1}_8epochs"] == f"{SCRATCH}_8epochs"
    assert found[f"{T1}_4epochs"] == f"{SCRATCH}_32epochs"


def test_a_baseline_without_suffixes_stands_for_all_its_recipes_and_lengths() -> None:
    names = [f"{arm}{rest}" for arm in (SCRATCH, T1) for rest in ("", "_lpft", "_50epochs", "_lpft_50epochs")]
    own = {name: name.replace(T1, SCRATCH) for name in names}
    assert pairs(*names) == own
    assert pairs(*names, f"{T1}_lpft_20epochs") == own | {f"{T1}_lpft_20epochs": f"{SCRATCH}_lpft"}
    assert pairs(*names, f"{T1}_lpft_encoderOnly")[f"{T1}_lpft_encoderOnly"] == f"{SCRATCH}_lpft"
    assert pairs(*names, f"{T1}_3cases", f"{SCRATCH}_lpft_3cases") == own
    # what no baseline fits is compared with the one without suffixes
    assert pairs(SCRATCH, f"{SCRATCH}_lpft", f"{T1}_adamw")[f"{T1}_adamw"] == SCRATCH
    # a name that states the default recipe means that one, and so does any name if nothing else is compared
    assert set(pairs(*names, wanted=f"{SCRATCH}_fitted").values()) == {SCRATCH}
    assert pairs(SCRATCH, f"{SCRATCH}_lpft") == {SCRATCH: SCRATCH, f"{SCRATCH}_lpft": SCRATCH}


@pytest.mark.parametrize("variant", ["encoderOnly", "noMirroring"])
def test_a_variant_of_the_baseline_that_is_no_recipe_or_length_is_compared_with_it(variant: str) -> None:
    assert set(pairs(SCRATCH, T1, f"{T1}_{variant}", wanted=T1).values()) == {T1}
    found = pairs(SCRATCH, T1, f"{T1}_lpft", f"{T1}_lpft_{variant}", f"{SCRATCH}_lpft", wanted=T1)
    assert found[f"{T1}_lpft_{variant}"] in (T1, f"{T1}_lpft")
    # without a plain arm, the variant is the baseline
    only = [f"{arm}{recipe}_noMirroring" for arm in (SCRATCH, T1) for recipe in ("", "_lpft")]
    assert pairs(*only) == {name: name.replace(T1, SCRATCH) for name in only}


def test_an_arm_without_mirroring_is_compared_with_the_baseline_without_it() -> None:
    plain, mirrorless = "nnUNetTrainerScratch", "nnUNetTrainerScratch_noMirroring"
    found = pairs(plain, mirrorless, T1, f"{T1}_noMirroring", f"{T1}_noMirroring_4epochs")
    # the baseline's own variant shows what mirroring does
    assert found == {
        **{plain: plain, mirrorless: plain, T1: plain},
        **{f"{T1}_noMirroring": mirrorless, f"{T1}_noMirroring_4epochs": mirrorless},
    }
    # the same recipe goes before no mirroring, and both together before either
    found = pairs(plain, mirrorless, f"{plain}_lpft", T1, f"{T1}_lpft_noMirroring")
    assert found[f"{T1}_lpft_noMirroring"] == f"{plain}_lpft"
    both = f"{plain}_lpft_noMirroring"
    assert pairs(plain, f"{plain}_lpft", both, T1, f"{T1}_lpft_noMirroring")[f"{T1}_lpft_noMirroring"] == both
    # a baseline with all its suffixes stands for itself
    assert set(pairs(plain, mirrorless, T1, f"{T1}_noMirroring", wanted=mirrorless).values()) == {mirrorless}
    assert set(pairs(plain, mirrorless, f"{T1}_noMirroring", wanted=f"{plain}_fitted").values()) == {plain}


def test_an_arm_whose_recipe_no_baseline_has_is_refused() -> None:
    with pytest.raises(ComparisonError, match="none has the recipe and at least the length of"):
        pairs(f"{SCRATCH}_adamw_8epochs", f"{SCRATCH}_8epochs", f"{T1}_lpft_4epochs")


def test_a_shorter_baseline_does_not_count() -> None:
    with pytest.raises(ComparisonError, match="at least the length of nnUNetTrainerT1Segmentation_64epochs"):
        pairs(f"{SCRATCH}_adamw_8epochs", f"{SCRATCH}_8epochs", f"{T1}_64epochs")


def test_without_arms_on_all_cases_those_with_the_most_cases_are_compared() -> None:
    names = [f"{arm}{recipe}_{n}cases" for arm in (SCRATCH, T1) for recipe in ("_adamw", "") for n in (1, 3, 8)]
    found = pairs(*names)
    assert found == {name: name.replace(T1, SCRATCH) for name in names if name.endswith("_8cases")}
    # the number that both have
    assert pairs(SCRATCH, f"{SCRATCH}_3cases", f"{T1}_3cases") == {
        f"{SCRATCH}_3cases": f"{SCRATCH}_3cases",
        f"{T1}_3cases": f"{SCRATCH}_3cases",
    }


def test_points_of_learning_curves_have_the_baseline_of_their_recipe() -> None:
    names = [f"{arm}{recipe}{n}" for arm in (SCRATCH, T1) for recipe in ("_adamw", "") for n in ("_1cases", "")]
    runs = runs_of(*names)
    arms = [run.arm for run in runs]
    found = baselines_of_all(arms, choose_baselines(runs, SCRATCH + "_adamw", "Dataset901_Made"))
    assert {arm.name: b.name for arm, b in found.items()}[f"{T1}_1cases"] == f"{SCRATCH}_adamw_1cases"
    found = baselines_of_all(arms, {a: b for a in arms for b in arms if b.name == a.name.replace(T1, SCRATCH)})
    assert {arm.name: baseline.name for arm, baseline in found.items()} == {n: n.replace(T1, SCRATCH) for n in names}


def test_an_arm_with_fewer_cases_only_is_not_left_out() -> None:
    first, second = usual(1), usual(2)
    small = Arm(f"{T1}_3cases", "T1", parse_trainer_name(f"{T1}_3cases"))
    scratch = Arm(SCRATCH, "Scratch", parse_trainer_name(SCRATCH))
    curves = learning_curves(scores_of({SCRATCH: first, small.name: second}), [scratch, small], {}, "dice", SETTINGS)
    assert list(curves["arm"]) == [SCRATCH, small.name]
    assert curves.set_index("arm").loc[small.name, "dice"] == pytest.approx(second.mean())


def test_where_a_fold_failed_few_training_cases_make_the_interval_wider() -> None:
    rng = np.random.default_rng(3)
    first = usual(1)
    second = with_folds(first + rng.normal(0, 0.01, N), (0,), 0.6)
    widths = []
    for number in (2, 20):
        arms = [Arm(f"{a}_{number}cases", a, parse_trainer_name(f"{a}_{number}cases")) for a in (SCRATCH, T1)]
        whole = Arm(SCRATCH, SCRATCH, parse_trainer_name(SCRATCH))
        scores = scores_of({SCRATCH: first, arms[0].name: first, arms[1].name: second})
        curves = learning_curves(scores, [whole, *arms], {arms[1]: arms[0]}, "dice", SETTINGS).set_index("arm")
        row = curves.loc[arms[1].name]
        widths.append(row["difference_high"] - row["difference_low"])
    # Nadeau and Bengio: the variance grows with 1 / folds + test cases / training cases, here 1/5 + 12/2 and 1/5 + 12/20
    assert widths[0] > 1.2 * widths[1]


def result_of(*trainers: str, seed: int = 0) -> TargetResult:
    protocol = PRESETS["atlas_r2"]
    target, made, cases = random_study(np.random.default_rng(seed), protocol, trainers, folds=3, labels=1, empty=0.2)
    runs = short_titles([replace(run, arm=titled(run.arm)) for run in made])
    lesions = pd.DataFrame(columns=["arm", "subject", "fold", "protocol", "volume_mm3", "detected", "seed"])
    settings = CompareSettings(protocols=["atlas_r2"], draws=100)
    baselines = choose_baselines(runs, SCRATCH, target.dataset)
    return analyse(target, runs, baselines, cases, lesions, (), settings)


LENGTHS = (
    f"{SCRATCH}_adamw_3cases_8epochs_25iterations",
    f"{SCRATCH}_3cases_8epochs_25iterations",
    *(f"{T1}_{n}cases_{epochs}epochs_25iterations" for n in (1, 3) for epochs in (2, 4, 8)),
    f"{SCRATCH}_1cases_8epochs_25iterations",
    f"{SCRATCH}_adamw_1cases_8epochs_25iterations",
)


@pytest.mark.parametrize("seed", range(4))
def test_lengths_against_plain_loops(seed: int) -> None:
    result = result_of(*LENGTHS, seed=seed)
    table = result.lengths.set_index("arm")
    means = {
        arm: np.mean([scans.groupby("case")["dice"].mean().mean() for _, scans in own.groupby("subject")])
        for arm, own in result.cases.dropna(subset=["dice"]).groupby("arm")
    }
    fitted = [name for name in LENGTHS if "adamw" not in name]
    assert set(table.index) == set(fitted)
    for name in fitted:
        row, trainer = table.loc[name], parse_trainer_name(name)
        control = f"{SCRATCH}_{trainer.cases}cases_8epochs_25iterations"
        assert row["iterations"] == (trainer.epochs or 0) * 25
        assert row["share"] == (trainer.epochs or 0) / 8
        assert row["training_cases"] == trainer.cases
        assert row["dice"] == pytest.approx(means[name])
        if name != control:
            assert row["difference"] == pytest.approx(means[name] - means[control])
    for found in reached(result.lengths):
        scratch = means[f"{SCRATCH}_{found.training_cases:g}cases_8epochs_25iterations"]
        enough = [
            25 * epochs
            for epochs in (2, 4, 8)
            if means[f"{T1}_{found.training_cases:g}cases_{epochs}epochs_25iterations"] >= scratch - 1e-12
        ]
        assert found.iterations == min(enough, default=None)
        assert found.baseline_iterations == 200
    assert len(length_sentences(result)) == 2


def test_without_a_correct_voxel_no_length_reaches_the_baseline() -> None:
    result = result_of(*LENGTHS)
    higher = replace(result, lengths=result.lengths.assign(difference=0.1))
    assert not any("with no length" in said for said in length_sentences(higher))
    missed = replace(higher, cases=result.cases.assign(voxels_tp=0, voxels_fn=1))
    assert ["with no length" in said for said in length_sentences(missed)] == [True, True]


def test_arms_of_one_length_have_no_table_of_lengths() -> None:
    assert result_of(f"{SCRATCH}_8epochs", f"{T1}_4epochs").lengths.empty


def test_sentences_say_when_the_baseline_is_reached() -> None:
    arms = [
        run.arm
        for run in runs_of(f"{SCRATCH}_32epochs_25iterations", *(f"{T1}_{n}epochs_25iterations" for n in (2, 4)))
    ]
    low = usual(1)
    # the last difference is printed as +0.000
    for second, iterations in ((low + 0.01, 50), (low - 0.01, None), (low - 0.0004, 50)):
        scores = scores_of({a.name: v for a, v in zip(arms, (low, second, second), strict=True)} | {SCRATCH: low})
        lengths = training_lengths(scores, arms, dict.fromkeys(arms, arms[0]), "dice", SETTINGS)
        first = reached(lengths)[0]
        assert (first.iterations, first.baseline_iterations) == (iterations, 800)


STUDY = """\
name: lengths
profile: demo
configuration: 2d
device: cpu
datasets:
  t1: {id: 811, synthetic: t1}
  stroke: {id: 812, synthetic: stroke}
sources:
  t1_segmentation: {pretrain: t1, epochs: 1, iterations: 5}
targets:
  stroke: {dataset: stroke, folds: [0, 1]}
arms:
  - {source: scratch, recipes: [warmup, fitted]}
  - {source: t1_segmentation, epochs: [2, 8]}
training: {epochs: 8, iterations: 25}
"""


def test_a_study_trains_each_length(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    assert [arm.name for arm in read_study(file).arms] == [
        f"{SCRATCH}_warmup_8epochs_25iterations",
        f"{SCRATCH}_8epochs_25iterations",
        f"{T1}_2epochs_25iterations",
        f"{T1}_8epochs_25iterations",
    ]
    smoke = read_study(write_smoke_study(read_study(file)))
    # the order of the lengths stays, so that the short study, too, has a baseline for each arm
    assert [arm.trainer.epochs for arm in smoke.arms] == [2, 2, 1, 2]
    assert len(pairs(*(arm.name for arm in smoke.arms))) == 4


def test_a_length_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.replace("training:", "  - {source: t1_segmentation, epochs: [4, 8]}\ntraining:"))
    with pytest.raises(StudyError, match=f"line 15: .*{T1}_8epochs_25iterations is given twice"):
        read_study(file)


def test_the_figure_has_a_panel_per_number_of_cases_and_a_line_per_arm() -> None:
    from nnunet_transfer.comparison import figures

    result = result_of(*LENGTHS)
    drawn = figures.lengths(result)
    panels = drawn.get_axes()
    assert [axis.get_title() for axis in panels] == ["1 training case", "3 training cases"]
    assert {text.get_text() for text in drawn.legends[0].get_texts()} == set(result.lengths["title"])
    assert set(result.lengths["title"]) == {"Scratch", "T1 segmentation"}
