"""Trainings on some of a fold's cases (`_<N>cases`): which they are, and that they are a subject's."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.subjects import MANIFEST, ordered_by_subject
from nnunet_transfer.training.base import CASES_SEED
from tests.finetuning_runs import Ready, build, train

pytestmark = pytest.mark.usefixtures("cheap")


def test_fewer_cases_are_nested_and_keep_subjects_together(tmp_path: Path) -> None:
    cases = [f"sub-{i:02d}_ses-{k}" for i in range(6) for k in range(2)]
    order = ordered_by_subject(reversed(cases), tmp_path, 0)
    assert sorted(order) == sorted(cases)
    assert order != sorted(cases)
    assert order == ordered_by_subject(cases, tmp_path, 0)
    assert [c[:6] for c in order[::2]] == [c[:6] for c in order[1::2]]


@pytest.mark.parametrize(
    "base", ["nnUNetTrainerScratch", "nnUNetPretrainerSegmentation", "nnUNetPretrainerSelfSupervised"]
)
def test_a_trainer_takes_the_first_cases_and_refuses_too_many(ready: Ready, base: str) -> None:
    folders, dataset, plans = ready
    everything, validation = build(dataset, plans, "nnUNetTrainerScratch_1epochs", folders).do_split()
    some = build(dataset, plans, f"{base}_1cases_1epochs", folders).do_split()
    assert set(some[0]) < set(everything)
    assert some[1] == validation
    with pytest.raises(SystemExit, match="asks for 3 training cases, but fold 0"):
        train(dataset, plans, f"{base}_3cases_1epochs_1iterations")


def test_subjects_of_chosen_cases_are_the_data_set_s_own_or_the_training_refuses(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, dataset, plans = ready
    name = "nnUNetTrainerScratch_1cases_1epochs_1iterations"
    raw = folders / "raw" / dataset
    # as nnU-Net's own planner leaves it
    (folders / "preprocessed" / dataset / MANIFEST).unlink()
    everything, _ = build(dataset, plans, "nnUNetTrainerScratch", folders).do_split()
    refused = []
    for first in everything:
        _name_subjects(raw, everything, first)
        trainer = build(dataset, plans, name, folders)
        trainer.on_train_start()
        chosen = trainer.do_split()[0]
        assert chosen == [case for case in everything if (case == first) == _comes_first("B")][:1]
        log = Path(trainer.log_file).read_text()
        assert (
            "1 of 2 training cases chosen by subject. Subjects were read from the data set's conversion manifest" in log
        )
        with monkeypatch.context() as patch:
            patch.delenv("nnUNet_raw")
            again = build(dataset, plans, name, folders)
            if again.do_split()[0] != chosen:
                with pytest.raises(SystemExit, match=r"restore .* conversion_manifest\.csv in nnUNet_raw"):
                    again.load_checkpoint({"trainer_name": name})
                refused.append(first)
    assert len(refused) == 1
    monkeypatch.setenv("nnUNet_raw", str(folders / "elsewhere"))
    with pytest.raises(SystemExit, match=f"there is no .*elsewhere/{dataset}, whose conversion_manifest.csv") as stop:
        train(dataset, plans, name)
    assert "\n" not in str(stop.value)
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(SystemExit, match="nnUNet_raw is not set"):
        train(dataset, plans, name)
    build(dataset, plans, "nnUNetTrainerScratch_1epochs_1iterations", folders).on_train_start()


def test_preprocessed_data_alone_give_the_cases_that_the_raw_data_give(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, dataset, plans = ready
    name = "nnUNetTrainerScratch_1cases_1epochs_1iterations"
    everything, _ = build(dataset, plans, "nnUNetTrainerScratch", folders).do_split()
    chosen = []
    for first in everything:
        _name_subjects(folders / "raw" / dataset, everything, first)
        write_transfer_plans(dataset, profile="demo", configurations=["2d"], patch_size=(32, 32), batch_size=2)
        trainer = build(dataset, plans, name, folders)
        chosen += trainer.do_split()[0]
        with monkeypatch.context() as patch:
            patch.setenv("nnUNet_raw", str(folders / "elsewhere"))
            alone = build(dataset, plans, name, folders)
            alone.on_train_start()
        assert alone.do_split() == trainer.do_split()
        assert "Subjects were read from the data set's conversion manifest: 2" in Path(alone.log_file).read_text()
    assert sorted(chosen) == sorted(everything)
    _name_subjects(folders / "raw" / dataset, everything, everything[0])
    with pytest.raises(SystemExit, match=r"names other subjects than .*, so that other cases would be chosen"):
        build(dataset, plans, name, folders).on_train_start()


def _name_subjects(raw: Path, cases: list[str], first: str) -> None:
    """Write a manifest in which one case is of another subject: the subjects' order decides, so the choice follows it."""
    rows = [f"{case},{'B' if case == first else 'A'}" for case in cases]
    (raw / MANIFEST).write_text("\n".join(["case,subject", *rows]) + "\n")


def _comes_first(subject: str) -> bool:
    order = ["A", "B"]
    random.Random(CASES_SEED).shuffle(order)
    return order[0] == subject
