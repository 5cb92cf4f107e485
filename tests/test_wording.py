"""What the report says in words never contradicts what its tables print: the writer is fed with hundreds of random tables."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.folds import Outlier
from nnunet_transfer.comparison.paired import add_verdicts
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.targets import Target
from nnunet_transfer.comparison.terminal_table import text_table
from nnunet_transfer.comparison.wording import caveats, sentence
from nnunet_transfer.evaluation.labels import LabelSet
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.naming import TrainerName

N_TABLES = 200
NAMES = ("Control", "Arm A", "Arm B", "Arm C", "Arm D")
#: how a sentence with verdicts begins -> what every arm in it must show
HIGHER = r"(Better than|These networks scored higher than|Dice was higher than)"
LOWER = r"(Worse than|These networks scored lower than|Dice was lower than)"
EQUAL = r"(Practically equal|These networks are practically equal|Dice was within)"
OPEN = r"A difference from"
UNCLEAR = r"Unclear compared with"
UNTESTED = r"Too few subjects differ"
FAILED = r"No correct voxel"
#: a noun in the plural after the number 1
ONE_OF_MANY = r"(?<![\d.,+-])1 (lesion-free |more |training )?(arm|case|fold|pair|scan|seed|subject|test)s\b"
KINDS = (HIGHER, LOWER, EQUAL, OPEN, UNCLEAR, UNTESTED, FAILED)


def near(rng: np.random.Generator) -> float:
    """A difference of any size, often one that rounding brings to a limit."""
    return float(
        rng.choice(
            [
                rng.normal(0, 0.1),
                rng.normal(0, 0.01),
                *(rng.choice([-1, 1]) * (limit + rng.uniform(-0.0006, 0.0006)) for limit in (0, 0.01)),
                # pandas rounds half a unit otherwise than it is printed
                rng.choice([-1, 1]) * rng.choice([0.0005, 0.0105]),
                0.0,
            ]
        )
    )


@cache
def random_result(seed: int) -> TargetResult:
    """Return a result whose tables hold random numbers that agree with each other only as far as they must."""
    rng = np.random.default_rng(seed)
    arms = tuple(Arm(name, name, TrainerName("nnUNetTrainerScratch")) for name in NAMES[: rng.integers(1, 6)])
    n_subjects = int(rng.choice([1, 3, 6, 19, 20, 100]))
    n_cases = n_subjects + int(rng.choice([0, 7]))
    scored = n_subjects if rng.random() < 0.7 else int(rng.integers(1, n_subjects + 1))
    baseline = float(rng.choice([0.0, rng.uniform(0.1, 0.9)]))
    rows, means = [], {arms[0].name: baseline}
    for arm in arms[1:]:
        means[arm.name] = float(np.clip(baseline + near(rng), 0, 1)) if rng.random() < 0.9 else 0.0
        difference = means[arm.name] - baseline
        low, high = difference - abs(near(rng)), difference + abs(near(rng))
        again = (low - abs(near(rng)), high + abs(near(rng))) if rng.random() < 0.6 else (np.nan, np.nan)
        p = float(rng.choice([np.nan, rng.random(), rng.uniform(0.049, 0.051), 0.0001, 0.02]))
        if scored < 2:
            low = high = p = np.nan
        head = {"arm": arm.name, "title": arm.title, "compared_with": arms[0].name, "metric": "dice"}
        head |= {"difference": difference, "headline_low": low, "headline_high": high, "p": p, "p_holm": p}
        # the test is about ranks: it may point elsewhere than the mean
        head |= {"rank_biserial": float(rng.choice([difference, near(rng)])), "n_subjects": scored}
        rows.append(head | {"procedure_low": again[0], "procedure_high": again[1]})
    settings = CompareSettings(rope=float(rng.choice([0.01, 0.05])))
    tests = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["metric"])
    tests = add_verdicts(tests, "dice", settings) if rows else tests
    summary = pd.DataFrame({"arm": list(means), "title": list(means), "dice": list(means.values())})
    subjects = [
        (arm.name, f"s{i}", means[arm.name] if i < scored else np.nan) for arm in arms for i in range(n_subjects)
    ]
    cases = pd.DataFrame(
        {
            "arm": arms[0].name,
            "case": [f"c{i}" for i in range(n_cases)],
            "subject": [f"s{i % n_subjects}" for i in range(n_cases)],
            "dice": [baseline if i % n_subjects < scored else np.nan for i in range(n_cases)],
        }
    )
    voxels = pd.DataFrame(
        {"arm": list(means), "voxels_tp": [10 * (mean > 0) for mean in means.values()], "voxels_fn": 1}
    )
    outliers = tuple(
        Outlier(arms[int(rng.integers(len(arms)))].name, fold, None if fold else 1, 0.1, 0.7)
        for fold in range(int(rng.choice([0, 0, 1, 3])))
    )
    none = pd.DataFrame()
    return TargetResult(
        target=Target("Dataset901_Made", LabelSet(()), {}, {}, {}),
        arms=arms,
        runs=(),
        baseline=arms[0].name,
        protocols=(),
        settings=settings,
        cases=voxels,
        lesions=none,
        per_case=cases,
        per_subject=pd.DataFrame(subjects, columns=["arm", "subject", "dice"]),
        summary=summary.assign(miou_over_cases=0.5),
        tests=tests,
        **dict.fromkeys(("pairs", "ranks", "detection", "sizes", "volumes", "curves", "recipes"), none),
        notices=(),
        baselines={arm.name: arms[0].name for arm in arms},
        outliers=outliers,
    )


def sentences(text: str) -> list[str]:
    return re.findall(r".+?(?:[.](?= [A-Z])|[.]$)", text)


def printed(value: float) -> float:
    return round(value, 3) + 0.0


def verdicts_of(text: str, name: str) -> list[tuple[str, str]]:
    """Return the kind of each sentence that judges an arm, and the sentence."""
    found = [(kind, s) for s in sentences(text) for kind in KINDS if re.match(kind, s.strip())]
    return [(kind, s.strip()) for kind, s in found if f"{name} (" in s or re.search(rf"[:,] {name}[,.]", s)]


def test_no_sentence_contradicts_a_cell() -> None:
    found = set()
    for seed in range(N_TABLES):
        found |= check_verdicts(random_result(seed))
    # every kind of sentence was written
    assert found == set(KINDS)


def check_verdicts(result: TargetResult) -> set[str]:
    """Check each arm's verdict against its row; return the kinds of sentences."""
    kinds, whole = set(), sentence(result)
    rope = result.settings.rope
    for _, row in result.tests.iterrows():
        ((kind, text),) = verdicts_of(whole, row["title"])
        kinds.add(kind)
        low, high = printed(row["headline_low"]), printed(row["headline_high"])
        significant = printed(row["p_holm"]) < 0.05
        assert kind in (EQUAL, FAILED) or not -rope <= low <= high <= rope
        if kind == HIGHER:
            assert significant
            assert 0 < low <= printed(row["difference"])
        elif kind == LOWER:
            assert significant
            assert printed(row["difference"]) <= high < 0
        elif kind == EQUAL:
            assert -rope <= low <= high <= rope
            assert f"±{rope:g}" in text
        elif kind == OPEN:
            assert not significant
            assert not low > 0
            assert not high < 0
        elif kind == UNCLEAR:
            assert significant or low > 0 or high < 0
            assert np.isfinite(row["p_holm"])
        elif kind == UNTESTED:
            assert np.isnan(row["p_holm"])
        else:
            assert result.summary.set_index("title").loc[row["title"], "dice"] == 0
        if "also if trained again" in text:
            again = (printed(row["procedure_low"]), printed(row["procedure_high"]))
            assert {HIGHER: again[0] > 0, LOWER: again[1] < 0, EQUAL: max(map(abs, again)) <= rope}[kind]
        numbers = re.search(rf"{row['title']} \(([^)]*)\)", text)
        if numbers and kind != FAILED:
            shown = [float(x) for x in re.findall(r"[+-]?\d+\.\d+", numbers[1])]
            cells = [printed(row["difference"]), *([low, high] if np.isfinite(low) else [])]
            cells += [max(printed(row["p_holm"]), 0.001)] if np.isfinite(row["p_holm"]) else []
            assert shown == pytest.approx(cells)
    return kinds


@pytest.mark.parametrize(("sign", "word"), [(1, "higher"), (-1, "lower")])
def test_a_difference_in_detection_that_dice_hides_is_named(sign: int, word: str) -> None:
    results = [r for r in map(random_result, range(N_TABLES)) if len(r.tests) and not r.failed]
    result = next(r for r in results if set(r.tests["verdict"]) == {"open"})
    ends = sorted((sign * 0.1, sign * 0.3))
    row = result.tests.iloc[0].to_dict() | {"metric": "atlas_r2_f1", "difference": sign * 0.2, "verdict": ""}
    row |= {"headline_low": ends[0], "headline_high": ends[1], "p_holm": 0.01, "rank_biserial": sign * 0.5}

    def said(dice: str = "open", **cells: float) -> bool:
        tests = pd.concat([result.tests.assign(verdict=dice), pd.DataFrame([row | cells])], ignore_index=True)
        text = sentence(replace(result, protocols=(PRESETS["atlas_r2"],), tests=tests))
        beginning = f"ATLAS R2.0 lesion F1 was {word} than in {result.baseline_title}, which Dice doesn't show: {row['title']} ("
        return beginning in text

    assert said()
    assert said("worse" if sign > 0 else "better")
    # Dice shows it, too; not corrected for the number of tests; the interval includes zero
    assert not said("better" if sign > 0 else "worse")
    assert not said(p_holm=0.2)
    assert not said(headline_low=-0.1, headline_high=0.1)
    # the mean rises because of few subjects while most others fall, which the test rests on
    assert not said(rank_biserial=-sign * 0.5)


def test_with_few_subjects_the_caveat_comes_first_and_the_words_are_weaker() -> None:
    for seed in range(N_TABLES):
        check_caveats(random_result(seed))


def check_caveats(result: TargetResult) -> None:
    """Check the order and the strength of what is said."""
    text, before = sentence(result), caveats(result)
    if result.n_counted < 20 and len(result.arms) > 1:
        assert re.match(
            rf"Only {result.n_counted} subjects?: .*Treat the results as hints, not findings\.$", before[-1]
        )
        assert ("no p-values" in before[-1]) == (result.n_counted < 6)
        assert not re.search(r"Better|Worse|[Pp]ractically|scored (higher|lower)|trained again", text)
    else:
        assert not before
    parts = sentences(text)
    highest = next(
        i for i, part in enumerate(parts) if "mean Dice," in part or "only arm" in part or "same mean" in part
    )
    # what makes the verdict doubtful stands before it
    assert all(i < highest for i, part in enumerate(parts) if re.search(r"stands? out", part))
    means = result.summary.set_index("title")["dice"].map(printed)
    named = [name for name in NAMES if re.search(rf"\b{name}\b", parts[highest])]
    if "same mean" not in parts[highest]:
        assert named == list(means.index[means == means.max()])
    assert f"{means.max():.3f}" in parts[highest]
    assert "nan" not in text


def test_without_any_lesion_that_counts_no_arm_is_judged() -> None:
    result = random_result(3)
    assert len(result.arms) > 1
    nothing = replace(
        result,
        cases=result.cases.assign(voxels_tp=0, voxels_fn=0),
        summary=result.summary.assign(dice=np.nan),
        per_subject=result.per_subject.assign(dice=np.nan),
        tests=result.tests.assign(difference=np.nan, headline_low=np.nan, headline_high=np.nan, p_holm=np.nan),
        outliers=(),
    )
    text = sentence(nothing)
    assert text.startswith("Dice is undefined for all arms: no reference contains a lesion (")
    assert "0 of" not in text
    assert not re.search("|".join((*KINDS, "hints")), text)
    assert "nan" not in text_table([nothing])


def test_where_no_voxel_can_be_correct_no_arm_is_said_to_have_none() -> None:
    result = next(found for seed in range(N_TABLES) if (found := random_result(seed)).failed)
    assert "No correct voxel in any case: " in sentence(result)
    # no reference contains a lesion, and every prediction does
    assert "No correct voxel" not in sentence(replace(result, cases=result.cases.assign(voxels_tp=0, voxels_fn=0)))


def test_nouns_agree_with_their_number_and_nothing_is_said_twice() -> None:
    seen = set()
    for seed in range(N_TABLES):
        result = random_result(seed)
        text = " ".join(text_table([result]).split())
        assert not re.search(ONE_OF_MANY, text), text
        assert "-0.000" not in text
        said = [*caveats(result), *sentences(sentence(result))]
        assert len(said) == len(set(said)), said
        seen.add(result.n_counted)
    assert 1 in seen


def with_outliers(*places: tuple[str, int, int | None, float]) -> str:
    """Return what is said of five arms of which some folds, or seeds in folds, stand out."""
    result = next(found for seed in range(N_TABLES) if len((found := random_result(seed)).arms) == 3)
    odd = tuple(Outlier(arm, fold, seed, mean, 0.8) for arm, fold, seed, mean in places)
    return sentence(replace(result, outliers=odd))


def test_all_folds_that_stand_out_are_named_in_one_sentence() -> None:
    one = with_outliers(("Arm A", 2, None, 0.1))
    assert "Fold 2 stands out; check its training: Arm A (mean Dice 0.100, other folds 0.800)." in one
    three = with_outliers(*(("Arm A", fold, None, fold / 100) for fold in (3, 0, 2)))
    assert "Folds 0, 2 and 3 stand out; check their training: Arm A (mean Dice 0.000, 0.020 and 0.030, other" in three
    assert len(re.findall(r"stands? out", three)) == 1
    mixed = with_outliers(("Arm A", 0, None, 0.1), ("Arm A", 1, None, 0.2), ("Control", 3, None, 0.3))
    assert "fold 3 of Control (mean Dice 0.300" in mixed
    assert "folds 0 and 1 of Arm A (mean Dice 0.100 and 0.200, other folds 0.800)" in mixed
    assert len(re.findall(r"stands? out", mixed)) == 1
    higher = with_outliers(("Arm A", 2, None, 0.9))
    assert "Fold 2 stands out; check its training and cases: Arm A" in higher
    # the seed says it
    once = with_outliers(("Arm A", 2, None, 0.4), ("Arm A", 2, 1, 0.0))
    assert len(re.findall(r"stands? out", once)) == 1
    assert "seed 1 in fold 2 of Arm A (mean Dice 0.000" in once
    every = with_outliers(*((arm, fold, None, 0.1) for arm in NAMES[:3] for fold in (1, 4)))
    # all arms may have failed there, or the cases are harder
    assert "Folds 1 and 4 stand out in every arm; check their cases and training." in every
    seeds = with_outliers(("Arm A", 0, 1, 0.1), ("Arm B", 2, 0, 0.2))
    assert "2 trainings stand out; check them: seed 1 in fold 0 of Arm A (mean Dice 0.100, other seeds 0.800)" in seeds
    assert len(re.findall(r"stands? out", seeds)) == 1


def test_the_terminal_says_what_the_report_says() -> None:
    result = random_result(3)
    shown = " ".join(text_table([replace(result, notices=("Doubtful: made up.", "Not a caveat."))]).split())
    assert sentence(result) in shown
    assert shown.index("Doubtful: made up.") < shown.index(sentence(result))
    assert "Not a caveat." not in shown
