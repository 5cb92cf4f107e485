"""Whether a source learnt its task: the verdict, and where it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_transfer.cli import main
from nnunet_transfer.files import write_json
from nnunet_transfer.finetuning.fitted_start import HEADS_FILE
from nnunet_transfer.pretraining.classification.summaries import (
    classification_summary,
    multi_label_summary,
    regression_summary,
)
from nnunet_transfer.pretraining.segmentation.twin import learning_beside_twin
from nnunet_transfer.sources import SourceCard, load_source, save_source
from nnunet_transfer.sources.learning import KEY, Learning, learning_of, learning_warnings, segmentation_learning


def _guesses(rng: np.random.Generator, cases: int, classes: int) -> dict[str, Any]:
    true = rng.permutation(np.arange(cases) % classes)
    probabilities = rng.dirichlet(np.ones(classes), cases)
    names = [f"c{i}" for i in range(cases)]
    return classification_summary(names, [str(c) for c in range(classes)], true, probabilities)


@pytest.mark.parametrize(("cases", "classes"), [(20, 2), (60, 3), (200, 10)])
def test_guessing_rarely_passes_for_learning_and_knowing_always_does(cases: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    verdicts = [learning_of(_guesses(rng, cases, classes)) for _ in range(300)]
    assert np.mean([v.learned for v in verdicts if v]) < 0.1
    true = np.arange(cases) % classes
    names, labels = [str(i) for i in range(cases)], [str(c) for c in range(classes)]
    known = learning_of(classification_summary(names, labels, true, np.eye(classes)[true]))
    assert known
    assert known.learned


def test_classes_told_apart_are_learnt_wherever_the_threshold_lies() -> None:
    true = np.arange(8) % 2
    old = np.where(true == 1, 0.8, 0.6)
    summary = classification_summary(
        [str(i) for i in range(8)], ["young", "old"], true, np.stack([1 - old, old], axis=1)
    )
    verdict = learning_of(summary)
    assert verdict
    assert summary["balanced_accuracy"] == 0.5
    assert (verdict.value, verdict.learned) == (1.0, True)


@pytest.mark.parametrize(
    ("young", "old", "auc", "learned"),
    [([0.9, 0.8], [0.1], 1.0, None), ([0.9, 0.1], [0.2], 0.5, False), ([0.9] * 4, [0.1] * 4, 1.0, True)],
)
def test_a_perfect_score_on_three_cases_proves_nothing(
    young: list[float], old: list[float], auc: float, learned: bool | None
) -> None:
    true = np.array([0] * len(young) + [1] * len(old))
    first = np.array(young + old)
    names = [str(i) for i in range(len(true))]
    summary = classification_summary(names, ["young", "old"], true, np.stack([first, 1 - first], axis=1))
    verdict = learning_of(summary)
    assert summary["auc"] == auc
    assert (verdict and verdict.learned) is learned


def test_guessing_several_classes_rarely_passes_for_learning() -> None:
    rng = np.random.default_rng(1)
    passed = []
    for _ in range(100):
        true = rng.random((40, 3)) < 0.4
        summary = multi_label_summary([str(i) for i in range(40)], ["a", "b", "c"], true, rng.random((40, 3)))
        verdict = learning_of(summary)
        assert verdict
        passed.append(verdict.learned)
    assert np.mean(passed) < 0.1


def test_a_regression_must_beat_the_training_mean() -> None:
    true = np.array([20.0, 40, 60])
    for predicted, learned in ((np.full(3, 40.0), False), (np.array([25.0, 40, 55]), True)):
        verdict = learning_of(regression_summary(["a", "b", "c"], true, predicted, 40.0))
        assert verdict
        assert verdict.learned is learned


@pytest.mark.parametrize("constant", [40.0, 58.0, 60.5])
def test_a_constant_is_no_regression_however_near_it_is_to_few_cases(constant: float) -> None:
    true = np.array([20.0, 60, 61, 62])
    verdict = learning_of(regression_summary(["a", "b", "c", "d"], true, np.full(4, constant), 40.0))
    assert verdict
    assert not verdict.learned
    assert verdict.untrained == pytest.approx(np.abs(true - 60.5).mean())


@pytest.mark.parametrize(
    ("summary", "learned"),
    [
        ({"task": "self_supervised", "explained_variance": 0.0, "n_cases": 4}, False),
        ({"task": "self_supervised", "explained_variance": 0.4, "n_cases": 4}, True),
        ({"task": "self_supervised", "top1_accuracy": 1 / 19, "chance": 1 / 19, "n_cases": 10}, False),
        ({"task": "self_supervised", "top1_accuracy": 0.8, "chance": 1 / 19, "n_cases": 10}, True),
        (
            {
                "task": "classification",
                "balanced_accuracy": None,
                "classes": ["a", "b"],
                "n_cases": 4,
                "cases": [{"class": name} for name in "aabb"],
            },
            False,
        ),
    ],
)
def test_other_tasks_have_their_own_reference(summary: dict[str, Any], learned: bool) -> None:
    verdict = learning_of(summary)
    assert verdict
    assert verdict.learned is learned


def _constant(counts: dict[str, int], chosen: str) -> dict[str, Any]:
    """A classifier that predicts one class whatever it sees, on this number of cases of each class."""
    names = list(counts)
    true = np.repeat(np.arange(len(names)), list(counts.values()))
    probabilities = np.tile(np.eye(len(names))[names.index(chosen)], (len(true), 1))
    return classification_summary([str(i) for i in range(len(true))], names, true, probabilities)


@pytest.mark.parametrize("cases", [2, 20, 200])
def test_predicting_one_class_is_not_learning_when_another_has_no_cases(cases: int) -> None:
    verdict = learning_of(_constant({"a": cases, "b": cases, "c": 0}, "a"))
    assert verdict
    assert (verdict.value, verdict.untrained, verdict.learned) == (0.5, 0.5, False)


def test_chance_counts_the_cases_of_each_class() -> None:
    verdict = learning_of(_constant({"a": 100, "b": 100, "c": 4}, "a"))
    assert verdict
    # the recalls' variances by hand: (2/9) (1/100 + 1/100 + 1/4), of a mean of three
    assert verdict.needed == pytest.approx(1 / 3 + 1.645 * np.sqrt(2 / 9 * 0.27) / 3)
    rng = np.random.default_rng(2)
    true = np.repeat(np.arange(3), (100, 100, 4))
    names, labels = [str(i) for i in range(204)], ["a", "b", "c"]
    passed = []
    for _ in range(300):
        guess = learning_of(classification_summary(names, labels, true, rng.dirichlet(np.ones(3), 204)))
        assert guess
        passed.append(guess.learned)
    assert np.mean(passed) < 0.1


@pytest.mark.parametrize(
    "summary",
    [
        _constant({"a": 5, "b": 0}, "a"),
        _constant({"a": 5, "b": 0, "c": 0}, "a"),
        multi_label_summary(["x", "y"], ["a"], np.ones((2, 1), bool), np.full((2, 1), 0.9)),
        {"task": "self_supervised", "top1_accuracy": 1.0, "chance": 1.0, "n_cases": 1},
        regression_summary(["x"], np.array([30.0]), np.array([31.0]), 40.0),
    ],
    ids=["one class of two", "one class of three", "all cases of the only class", "a single case", "a single value"],
)
def test_cases_that_cant_show_learning_are_not_judged(summary: dict[str, Any]) -> None:
    assert learning_of(summary) is None


@pytest.mark.parametrize(
    ("epochs", "value"), [([0.9, 0.1, 0.2, np.nan, 0.3, 0.4], 0.25), ([np.nan] * 6, None), ([0.9, *[np.nan] * 5], None)]
)
def test_epochs_without_foreground_dont_spoil_the_verdict(
    epochs: list[float], value: float | None, tmp_path: Path
) -> None:
    write_json(tmp_path / HEADS_FILE, {"mean_dice": 0.1})
    logger = SimpleNamespace(get_value=lambda name, step: epochs if name == "mean_fg_dice" else None)
    verdict = learning_beside_twin(SimpleNamespace(logger=logger, output_folder=str(tmp_path)))  # type: ignore[arg-type]
    assert (verdict and verdict.value) == (value and pytest.approx(value))


def test_a_summary_of_masks_is_not_judged_alone() -> None:
    assert learning_of({"foreground_mean": {"Dice": 0.9}}) is None


def test_a_segmentation_source_must_beat_its_untrained_twin() -> None:
    for dice, untrained, learned in ((0.34, 0.33, False), (0.79, 0.07, True), (0.4, 0.98, False)):
        verdict = segmentation_learning(dice, untrained)
        assert verdict
        assert verdict.learned is learned
        assert verdict.needed <= 1


def test_a_segmentation_that_needs_no_training_is_not_judged() -> None:
    assert segmentation_learning(0.995, 0.97) is None


def test_a_source_that_learnt_nothing_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path))
    architecture = {"network_class_name": "x", "arch_kwargs": {}, "arch_kwargs_req_import": []}
    card = SourceCard(name="poor", task="classification", domain="t1", architecture=architecture, input_channels=1)
    assert learning_warnings(card) == ()
    poor = Learning("balanced accuracy", 0.5, 0.5, 0.95).to_dict()
    save_source(replace(card, extra={KEY: poor}), {"encoder.stem.weight": torch.zeros(1)})
    (warning,) = learning_warnings(load_source("poor").card)
    assert "did not learn its task (balanced accuracy 0.500; 0.500 without learning" in warning
    assert main(["sources", "show", "poor"]) == 0
    assert warning in capsys.readouterr().err
    assert learning_warnings(replace(card, extra={KEY: {**poor, "value": 1.0, "learned": True}})) == ()
