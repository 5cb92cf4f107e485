"""Interrupted fine-tunings end like straight ones, and go on from their own checkpoints alone."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.naming import DEFAULT_RECIPE
from nnunet_transfer.plans import write_chosen_plans, write_transfer_plans
from nnunet_transfer.recipes import RECIPES
from tests.finetuning_runs import Ready, build, resumed, run_until, train
from tests.sources import save_random_source

pytestmark = pytest.mark.usefixtures("cheap")


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupt_within_any_stage_changes_nothing(recipe: str, ready: Ready) -> None:
    folders, dataset, plans = ready
    suffix = "" if recipe == DEFAULT_RECIPE else f"_{recipe}"
    # so many epochs give each stage two or more; the first few epochs of the last stage are enough to compare
    epochs = 80 if recipe == "sawtooth" else 40
    name = f"nnUNetTrainerT1Segmentation{suffix}_{epochs}epochs_1iterations_seed1"
    *stages, _ = RECIPES[recipe].boundaries(epochs)
    stops = [first + 1 for first in stages]
    end = stops[-1] + 2
    straight = run_until(build(dataset, plans, name, folders), end)
    weights = {k: v.clone() for k, v in unwrapped(straight.network).state_dict().items()}
    optimizer = straight.optimizer.state_dict()
    shutil.rmtree(Path(straight.output_folder_base))

    for stop in stops:
        interrupted = resumed(build(dataset, plans, name, folders))
        assert RECIPES[recipe].at(stop, epochs).phase == RECIPES[recipe].at(stop - 1, epochs).phase, "within a stage"
        run_until(interrupted, stop)
        # `--c` must not need the source any more
        shutil.rmtree(folders / "results" / "sources", ignore_errors=True)
    continued = run_until(resumed(build(dataset, plans, name, folders)), end)
    assert all(torch.equal(v, weights[k]) for k, v in unwrapped(continued.network).state_dict().items())
    now = continued.optimizer.state_dict()
    assert now["param_groups"] == optimizer["param_groups"]
    assert now["state"].keys() == optimizer["state"].keys()
    for key, state in optimizer["state"].items():
        assert state.keys() == now["state"][key].keys()
        assert all(_same(now["state"][key][name], value) for name, value in state.items())
    frozen = [p.requires_grad for p in unwrapped(straight.network).parameters()]
    assert [p.requires_grad for p in unwrapped(continued.network).parameters()] == frozen


def test_a_continued_training_is_validated_without_its_source(ready: Ready) -> None:
    folders, dataset, plans = ready
    name = "nnUNetTrainerT1Segmentation_3epochs_1iterations_seed1"
    run_until(build(dataset, plans, name, folders), 1)
    shutil.rmtree(folders / "results" / "sources")
    continued = train(dataset, plans, name, continue_training=True)
    assert (Path(continued.output_folder) / "validation" / "summary.json").exists()


def _same(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    return first is second if first is None or second is None else torch.equal(first, second)


def test_a_checkpoint_of_another_recipe_is_refused(ready: Ready) -> None:
    folders, dataset, plans = ready
    first = train(dataset, plans, "nnUNetTrainerScratch_1epochs_1iterations")
    other = build(dataset, plans, "nnUNetTrainerScratch_full_1epochs_1iterations", folders)
    with pytest.raises(SystemExit, match="written by nnUNetTrainerScratch_1epochs_1iterations"):
        other.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))


def test_a_training_begun_with_the_default_recipe_of_an_earlier_version_is_refused(
    ready: Ready,
) -> None:
    folders, dataset, plans = ready
    first = train(dataset, plans, "nnUNetTrainerScratch_1epochs_1iterations")
    record = Path(first.output_folder) / "provenance.json"
    content = read_json(record)
    content["run"]["recipe"] = "warmup"
    write_json(record, content)
    again = build(dataset, plans, "nnUNetTrainerScratch_1epochs_1iterations", folders)
    with pytest.raises(SystemExit, match="start again as nnUNetTrainerScratch_warmup_1epochs_1iterations"):
        again.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))


def test_a_checkpoint_from_before_a_later_start_is_not_taken_for_its_own(ready: Ready) -> None:
    folders, dataset, plans = ready
    name = "nnUNetTrainerT1Segmentation_1epochs_1iterations"
    final = Path(train(dataset, plans, name).output_folder) / "checkpoint_final.pth"
    build(dataset, plans, name, folders).load_checkpoint(str(final))
    time.sleep(1)  # a record's times are of whole seconds
    save_random_source("t1_segmentation", folders / "preprocessed" / dataset / f"{plans}.json", "2d", seed=3)
    build(dataset, plans, name, folders).on_train_start()  # without --c, and killed
    with pytest.raises(SystemExit, match="is of an earlier training than") as stop:
        build(dataset, plans, name, folders).load_checkpoint(str(final))
    assert "\n" not in str(stop.value)


def test_a_training_that_began_with_other_cases_is_neither_continued_nor_validated(ready: Ready) -> None:
    folders, dataset, plans = ready
    name = "nnUNetTrainerScratch_2epochs_1iterations"
    folder = Path(run_until(build(dataset, plans, name, folders), 1).output_folder)
    splits = folders / "preprocessed" / dataset / "splits_final.json"
    first, *others = read_json(splits)
    write_json(splits, [{"train": first["val"], "val": first["train"]}, *others])
    with pytest.raises(SystemExit, match="has other training or validation cases than when the training") as stop:
        train(dataset, plans, name, continue_training=True)
    assert "\n" not in str(stop.value)
    # in another order and beside other folds they are the same cases
    write_json(splits, [{key: cases[::-1] for key, cases in first.items()}])
    train(dataset, plans, name, continue_training=True)
    write_json(splits, [{"train": [], "val": first["val"]}])
    with pytest.raises(SystemExit, match=r"restore splits_final\.json"):
        build(dataset, plans, name, folders).load_checkpoint(str(folder / "checkpoint_final.pth"))


def test_a_truncated_checkpoint_is_named(ready: Ready) -> None:
    folders, dataset, plans = ready
    trainer = build(dataset, plans, "nnUNetTrainerScratch_1epochs_1iterations", folders)
    path = folders / "checkpoint_latest.pth"
    path.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(SystemExit, match="can't be read"):
        trainer.load_checkpoint(str(path))


def test_other_weights_than_planned_are_refused_where_they_would_be_loaded(ready: Ready) -> None:
    folders, dataset, plans = ready
    planned: dict[str, Any] = {"configurations": ["2d"], "patch_size": (32, 32), "batch_size": 2}

    def write(**options: Any) -> str:
        return write_transfer_plans(dataset, profile="demo", source="t1_segmentation", **planned, **options).stem

    own, started = write(), "nnUNetTrainerTransfer_3epochs_1iterations_seed1"
    run_until(build(dataset, own, started, folders), 1)
    save_random_source("t1_segmentation", folders / "preprocessed" / dataset / f"{plans}.json", "2d", labels=2, seed=8)
    again = "nnUNetTrainerTransfer_1epochs_1iterations"
    with pytest.raises(SystemExit, match=f"{own} were written for other weights of source t1_segmentation") as stop:
        build(dataset, own, again, folders).on_train_start()
    assert "\n" not in str(stop.value)
    # a training that has started has its weights; other arms and folds take sources that the plans don't state
    continued = train(dataset, own, started, continue_training=True)
    assert (Path(continued.output_folder) / "validation" / "summary.json").exists()
    chosen = write_chosen_plans(dataset, own, "nnUNetPlans_demo_from_best", "best", {0: "t1_segmentation"}).stem
    for trainer, named in (("nnUNetTrainerT1Segmentation_1epochs_1iterations", own), (again, chosen)):
        build(dataset, named, trainer, folders).on_train_start()
    build(dataset, write(overwrite=True), again, folders).on_train_start()
    save_random_source("t1_segmentation", folders / "preprocessed" / dataset / f"{plans}.json", "2d", labels=2, seed=9)
    with pytest.raises(SystemExit, match=f"{chosen} were written for other weights .* rank the sources again"):
        build(dataset, chosen, again, folders).on_train_start()


def test_a_full_disk_keeps_the_last_checkpoint(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    folders, dataset, plans = ready
    trainer = build(dataset, plans, "nnUNetTrainerScratch_1epochs_1iterations", folders)
    trainer.initialize()
    target = Path(trainer.output_folder) / "checkpoint_latest.pth"
    killed = target.with_name(f".tmp1-{target.name}")
    killed.write_bytes(b"half of a checkpoint of hundreds of megabytes")
    os.utime(killed, (0, 0))
    trainer.save_checkpoint(str(target))
    before = target.read_bytes()

    def full(obj: object, path: str, *args: object, **kwargs: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit, match="no space left"):
        trainer.save_checkpoint(str(target))
    assert target.read_bytes() == before
    assert [p.name for p in target.parent.iterdir() if "checkpoint" in p.name] == ["checkpoint_latest.pth"]
