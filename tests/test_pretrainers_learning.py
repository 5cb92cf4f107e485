"""What the pretrainers draw and learn, in one go, after an interrupt and in two processes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.pretraining.self_supervised.figures import Reconstruction
from nnunet_transfer.sources import list_sources, load_source
from nnunet_transfer.trainers import get_trainer_class
from tests.pretraining_runs import ALL, WITHOUT_MASKS, Prepared, Run, a_run, one_of_two
from tests.warm import start_two

pytestmark = pytest.mark.usefixtures("cheap")

#: those that draw otherwise in 3D than in 2D: nnU-Net's augmentation, and distortions of an image
DRAWING_IN_3D = ["nnUNetPretrainerSegmentation", "nnUNetPretrainerModelsGenesis"]


@pytest.fixture
def run(request: pytest.FixtureRequest, prepared: Prepared, nnunet_folders: Path) -> Run:
    """A run in 2D, or in the configuration that the test is parametrised with."""
    return a_run(prepared, getattr(request, "param", "2d"), nnunet_folders)


in_2d_and_slowly_3d = pytest.mark.parametrize(
    "run", ["2d", pytest.param("3d_fullres", marks=pytest.mark.slow)], indirect=True
)


@pytest.mark.parametrize(
    ("run", "base"),
    [
        *(("2d", base) for base in ALL),
        *(pytest.param("3d_fullres", base, marks=pytest.mark.slow) for base in DRAWING_IN_3D),
    ],
    indirect=["run"],
)
def test_an_interrupted_pretraining_ends_like_a_straight_one(
    base: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{base}_2epochs_2iterations_seed4"
    straight = unwrapped(run.train(name).network).state_dict()
    summary = read_json(run.output(name) / "validation" / "summary.json")
    shutil.rmtree(run.folders / "results")

    cls = get_trainer_class(name)
    monkeypatch.setattr(cls, "save_every", 1, raising=False)
    end = cls.on_epoch_end

    def interrupt(self: Any) -> None:
        self.save_every = 1
        end(self)
        if not self.output_folder_resumed:
            raise KeyboardInterrupt

    monkeypatch.setattr(cls, "on_epoch_end", interrupt, raising=False)
    monkeypatch.setattr(cls, "output_folder_resumed", False, raising=False)
    with pytest.raises(KeyboardInterrupt):
        run.train(name)
    assert list_sources() == []
    monkeypatch.setattr(cls, "output_folder_resumed", True, raising=False)
    resumed = unwrapped(run.train(name, continue_training=True).network).state_dict()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert read_json(run.output(name) / "validation" / "summary.json") == summary
    assert len(list_sources()) == 1


@in_2d_and_slowly_3d
def test_classification_learns_to_tell_stripes_from_none(run: Run) -> None:
    name = "nnUNetPretrainerClassification_5epochs_20iterations_seed1"
    run.train(name)
    summary = read_json(run.output(name) / "validation" / "summary.json")
    assert summary["classes"] == ["plain", "striped"]
    assert summary["n_cases"] == 4
    assert summary["balanced_accuracy"] == 1
    assert summary["auc"] == 1
    assert not summary["validated_on_training_cases"]
    for case in summary["cases"]:
        assert sum(case["probabilities"].values()) == pytest.approx(1)
    extra = load_source("t1_classification").card.extra
    assert extra["classes"] == {"plain": 2, "striped": 2}
    assert "learning" not in extra  # one guess of six is perfect, too


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(("recipe", "optimiser", "rate"), [("", "SGD", 1e-2), ("_fitted", "AdamW", 3e-3)])
def test_a_segmentation_source_is_measured_against_its_untrained_twin(
    recipe: str, optimiser: str, rate: float, run: Run
) -> None:
    name = f"nnUNetPretrainerSegmentation{recipe}_1epochs_2iterations_seed1"
    trainer = run.train(name)
    assert type(trainer.optimizer).__name__ == optimiser
    assert trainer.initial_lr == rate
    assert read_json(run.output(name) / "provenance.json")["run"]["recipe"] == (recipe.removeprefix("_") or None)
    learning = load_source("t1_segmentation").card.extra["learning"]
    assert learning["untrained"] == read_json(run.output(name) / "fitted_heads.json")["mean_dice"]
    if not recipe:
        assert not learning["learned"], "two iterations at random output layers teach nothing"


@pytest.mark.usefixtures("whole")
@in_2d_and_slowly_3d
def test_masked_autoencoding_restores_better_with_training(run: Run) -> None:
    name = "nnUNetPretrainerSelfSupervised_6epochs_20iterations_seed1"
    trainer = run.train(name)
    losses = trainer.logger.get_value("train_losses", step=None)
    assert losses[-1] < 0.9 * losses[0]
    folder = run.output(name) / "validation"
    summary = read_json(folder / "summary.json")
    # more than the mean intensity, which explains nothing
    assert summary["explained_variance"] > 0.1
    assert summary["mse"] == pytest.approx(np.mean([case["mse"] for case in summary["cases"]]))
    assert summary["mask_ratio"] == 0.75
    assert summary["block_size"] == [n // 4 for n in trainer.configuration_manager.patch_size]
    assert (folder / "reconstruction.png").stat().st_size > 1000


def test_the_picture_shows_the_output_where_the_input_was_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Reconstruction] = []
    monkeypatch.setattr(
        "nnunet_transfer.pretraining.self_supervised.restoration.draw_reconstructions",
        lambda _, items: drawn.extend(items),
    )
    run.train("nnUNetPretrainerSelfSupervised_1epochs_1iterations")
    assert [item.case for item in drawn] == ["case00", "case02", "case04", "case06"]
    for item in drawn:
        hidden = item.distorted == 0
        assert hidden.mean() == pytest.approx(0.75, abs=0.01)
        assert np.array_equal(item.output[~hidden], item.image[~hidden])
        assert not np.isclose(item.output[hidden], item.image[hidden]).all()


def test_classes_are_drawn_equally_often_from_an_unbalanced_fold(run: Run) -> None:
    splits = [{"train": [f"case{i:02d}" for i in (0, 2, 3, 4, 5, 6)], "val": ["case01", "case07"]}]
    write_json(run.preprocessed / "splits_final.json", splits)
    trainer = run.build("nnUNetPretrainerClassification_seed0")
    trainer.initialize()
    loader, _ = trainer.get_dataloaders()
    drawn = np.concatenate([next(loader)["keys"] for _ in range(60)])
    counts = trainer.task.head.table.counts(drawn)
    assert sum(counts.values()) == 240
    assert abs(counts["plain"] - 120) < 40  # five standard deviations
    assert set(drawn) == set(splits[0]["train"])


def test_self_supervision_augments_in_space_only(run: Run) -> None:
    trainer = run.build("nnUNetPretrainerSelfSupervised_seed0")
    trainer.initialize()
    rotation, dummy_2d, patch, mirror = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    transform = trainer.get_training_transforms((32, 32), rotation, None, mirror, dummy_2d, use_mask_for_norm=[False])
    torch.manual_seed(0)
    constant = {"image": torch.full((1, *map(int, patch)), 7.0), "segmentation": torch.zeros(1, *map(int, patch))}
    ramp = torch.arange(float(patch[0] * patch[1])).reshape(1, *map(int, patch))
    moved = 0
    for _ in range(60):
        image = transform(**constant)["image"]
        assert image.max() <= 7 + 1e-4
        assert image[0, 16, 16] == pytest.approx(7, abs=1e-4)
        out = transform(image=ramp, segmentation=constant["segmentation"])["image"]
        moved += not torch.equal(out, ramp[:, 7:39, 7:39])
    assert moved > 20


def _rank(rank: int, folders: str, dataset: str, plans: str, name: str) -> None:
    with one_of_two(rank, Run(Path(folders), dataset, plans, "2d"), name) as trainer:
        trainer.run_training()
        trainer.perform_actual_validation()


@pytest.mark.slow
@pytest.mark.parametrize("base", WITHOUT_MASKS)
def test_two_processes_train_one_network_and_share_the_validation(base: str, run: Run) -> None:
    # a second epoch would fail if a parameter had got no gradient in the first
    name = f"{base}_2epochs_2iterations_seed1"
    start_two(_rank, str(run.folders), run.dataset, run.plans, name)
    first, second = (torch.load(run.folders / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    summary = read_json(run.output(name) / "validation" / "summary.json")
    assert [case["case"] for case in summary["cases"]] == ["case00", "case02", "case04", "case06"]
    assert len(list_sources()) == 1
