"""Pre-training on classes, several classes per case and values, in nnU-Net's own training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.sources import load_source
from tests.pretraining_runs import (
    CASES,
    Prepared,
    Run,
    a_run,
    is_spotted,
    is_striped,
    refusal,
    refuse_loading,
)

PRETRAINER = "nnUNetPretrainerClassification"
LABELS = [";".join(["spotted"] * is_spotted(i) + ["striped"] * is_striped(i)) for i in range(CASES)]
AGES = [str(30 + i + 40 * is_striped(i)) for i in range(CASES)]
TABLES = {"classes": LABELS, "value": AGES}


@pytest.fixture
def run(request: pytest.FixtureRequest, prepared: Prepared, nnunet_folders: Path) -> Run:
    return a_run(prepared, getattr(request, "param", "2d"), nnunet_folders)


def _summary(run: Run, name: str) -> dict[str, Any]:
    return read_json(run.output(name) / "validation" / "summary.json")


def test_several_classes_per_case_are_learnt(run: Run) -> None:
    run.write_table("classes", LABELS)
    name = f"{PRETRAINER}_8epochs_20iterations_seed1"
    run.train(name)
    summary = _summary(run, name)
    assert summary["classes"] == ["spotted", "striped"]
    assert summary["auc_per_class"] == {"spotted": 1, "striped": 1}
    assert summary["average_precision"] == 1
    assert [case["classes"] for case in summary["cases"]] == [[], ["striped"], ["spotted"], ["spotted", "striped"]]
    assert load_source("t1_classification").card.extra["classes"] == {"spotted": 2, "striped": 2}


def test_a_value_is_learnt_better_than_its_mean(run: Run) -> None:
    run.write_table("value", AGES)
    name = f"{PRETRAINER}_8epochs_20iterations_seed1"
    trainer = run.train(name)
    summary = _summary(run, name)
    assert [case["value"] for case in summary["cases"]] == [30, 72, 34, 76]
    # training cases 1, 3, 5, 7 have 31, 73, 35, 77
    assert summary["mae_of_training_mean"] == pytest.approx(np.mean([24, 18, 20, 22]))
    assert summary["mae"] < summary["mae_of_training_mean"] / 2
    assert summary["r2"] > 0.5
    assert summary["pearson_r"] > 0.9
    extra = load_source("t1_classification").card.extra
    assert extra["training_mean"] == 54
    assert extra["training_sd"] == pytest.approx(np.std([31, 73, 35, 77]))
    score = trainer.logger.get_value("mean_fg_dice", step=-1)
    assert 0.5 < score <= 1


@pytest.mark.parametrize(
    ("run", "column"), [("2d", "classes"), ("2d", "value"), ("3d_fullres", "value")], indirect=["run"]
)
def test_an_arm_starts_from_the_source_and_validation_can_be_repeated(run: Run, column: str) -> None:
    run.write_table(column, TABLES[column])
    name = f"{PRETRAINER}_1epochs_2iterations"
    run.train(name)
    before = _summary(run, name)
    (run.output(name) / "validation" / "summary.json").unlink()
    trainer = run.build(name)
    maybe_load_checkpoint(trainer, continue_training=False, validation_only=True)
    trainer.perform_actual_validation()
    assert _summary(run, name) == before
    arm = run.build("nnUNetTrainerT1Classification_1epochs_1iterations")
    arm.initialize()
    arm.prepare_fresh_network()
    tensors = load_source("t1_classification").tensors()
    loaded = arm.network.state_dict()
    assert not [key for key in tensors if not key.startswith("encoder.")]
    assert all(torch.equal(loaded[key], tensor) for key, tensor in tensors.items())


def test_settings_reach_loss_and_sampling(run: Run) -> None:
    settings = {"label_smoothing": 0.1, "class_weights": {"striped": 2}, "sampling": "natural"}
    run.set_in_dataset_json(classification=settings)
    split = {"train": [f"case{i:02d}" for i in (0, 1, 4, 5, 2)], "val": ["case03", "case06"]}
    write_json(run.preprocessed / "splits_final.json", [split])
    trainer = run.build(f"{PRETRAINER}_1epochs_1iterations_seed0")
    trainer.initialize()
    assert trainer.loss.label_smoothing == 0.1
    assert trainer.loss.weight.tolist() == [1, 2]
    assert sorted(trainer.get_tr_and_val_datasets()[0].identifiers) == sorted(split["train"])
    run.train(f"{PRETRAINER}_1epochs_1iterations_seed0")
    assert load_source("t1_classification").card.extra["settings"] == settings


def _other_column(run: Run) -> None:
    run.write_table("class", ["old" if float(age) > 50 else "young" for age in AGES])


def _other_values(run: Run) -> None:
    run.write_table("value", [str(float(age) + 1) for age in AGES])


def _other_settings(run: Run) -> None:
    run.set_in_dataset_json(classification={"sampling": "natural"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_column, "classes.csv has the column class, the model in .* was trained with value"),
        (_other_values, "have mean and SD 55.*was trained with 54"),
        (_other_settings, "asks for {'sampling': 'natural'}, the model in .* was trained with the defaults"),
    ],
)
def test_a_training_is_not_continued_with_other_targets(change: Any, message: str, run: Run) -> None:
    run.write_table("value", AGES)
    name = f"{PRETRAINER}_1epochs_1iterations"
    run.train(name)
    change(run)
    trainer = run.build(name, continue_training=True)
    with pytest.raises(SystemExit, match=message) as caught:
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert "train from scratch" in refusal(caught)


def _misspell_setting(run: Run) -> None:
    run.set_in_dataset_json(classification={"lable_smoothing": 0.1})


def _weigh_unknown_class(run: Run) -> None:
    run.set_in_dataset_json(classification={"class_weights": {"spotted": 2}})


def _smooth_values(run: Run) -> None:
    run.write_table("value", AGES)
    run.set_in_dataset_json(classification={"label_smoothing": 0.1})


def _damage_value(run: Run) -> None:
    run.write_table("value", ["inf", *AGES[1:]])


def _train_on_one_value(run: Run) -> None:
    run.write_table("value", ["40", *["41"] * (CASES - 1)])


def _train_without_a_label(run: Run) -> None:
    run.write_table("classes", ["odd" if i % 2 else "" for i in range(CASES)])


def _train_without_cases(run: Run) -> None:
    run.write_table("value", AGES)
    write_json(run.preprocessed / "splits_final.json", [{"train": [], "val": ["case00"]}])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_misspell_setting, "did you mean label_smoothing"),
        (_weigh_unknown_class, "the class 'spotted'"),
        (_smooth_values, "label_smoothing is for classes"),
        (_damage_value, "'inf', is not a finite number"),
        (_train_on_one_value, "all training cases of the fold have the same value"),
        (_train_without_a_label, "every training case of the fold has the class odd"),
        (_train_without_cases, "no training cases"),
    ],
)
def test_bad_input_ends_in_one_line_before_data_are_loaded(
    fault: Any, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_loading(monkeypatch)
    fault(run)
    trainer = run.build(f"{PRETRAINER}_1epochs_1iterations")
    with pytest.raises(SystemExit) as caught:
        trainer.on_train_start()
    assert message in refusal(caught)
