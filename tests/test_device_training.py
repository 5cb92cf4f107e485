"""Whole trainings that augment on the device; on the CPU, where this is forced, because a test needs no GPU."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.noise import gaussian_blur
from batchgeneratorsv2.transforms.noise.median_filter import MedianFilterTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.files import read_json
from nnunet_transfer.training.device_augmentation import FORCE, VARIABLE
from tests.pretraining_runs import Prepared, Run, a_run, refusal, refuse_loading
from tests.sources import save_random_source

pytestmark = pytest.mark.usefixtures("cheap")
SUFFIX = "_2epochs_2iterations_seed3"
TRAINERS = (
    "nnUNetTrainerT1Segmentation",
    "nnUNetPretrainerSegmentation",
    "nnUNetPretrainerClassification",
    "nnUNetPretrainerSelfSupervised",
)


def _run(prepared: Prepared, configuration: str, folders: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    run = a_run(prepared, configuration, folders)
    save_random_source("t1_segmentation", run.preprocessed / f"{run.plans}.json", configuration, labels=2)
    monkeypatch.setenv(VARIABLE, FORCE)
    return run


@pytest.fixture
def run(prepared: Prepared, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return _run(prepared, "2d", nnunet_folders, monkeypatch)


def _log(trainer: Any) -> str:
    return Path(trainer.log_file).read_text(encoding="utf-8")


@pytest.mark.parametrize("base", TRAINERS)
def test_the_same_seed_gives_the_same_weights(
    base: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for attempt in range(2):
        monkeypatch.setenv("nnUNet_sources", str(tmp_path / f"sources{attempt}"))
        save_random_source("t1_segmentation", run.preprocessed / f"{run.plans}.json", "2d", labels=2)
        monkeypatch.setenv("nnUNet_source_name", "of_this_test")
        torch.manual_seed(attempt)  # what was drawn before must not matter
        trainer = run.train(base + SUFFIX)
        weights.append(unwrapped(trainer.network).state_dict())
    assert all(torch.equal(weights[0][k], v) for k, v in weights[1].items())
    (session,) = read_json(run.output(base + SUFFIX) / "provenance.json")["sessions"]
    assert session["settings"] == {"augmentation_on_device": True}


def test_how_busy_the_machine_is_does_not_change_a_seeded_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's blur times itself at the first try and takes another way if that was faster."""
    monkeypatch.setenv(VARIABLE, "0")
    trainer = run.build("nnUNetTrainerScratch" + SUFFIX)
    trainer.on_train_start()
    blurs: list[int] = []
    convolve = gaussian_blur.blur_dimension
    monkeypatch.setattr(gaussian_blur, "fft_conv", lambda *_, **__: pytest.fail("the blur was timed"))
    monkeypatch.setattr(gaussian_blur, "blur_dimension", lambda *a, **k: (blurs.append(1), convolve(*a, **k))[1])
    for _ in range(20):
        next(trainer.dataloader_train)
    assert blurs


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_workers_cut_enlarged_patches_and_the_trainer_gets_augmented_ones(
    configuration: str, prepared: Prepared, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(prepared, configuration, nnunet_folders, monkeypatch)
    trainer = run.build("nnUNetTrainerScratch" + SUFFIX)
    trainer.on_train_start()
    patch = list(trainer.configuration_manager.patch_size)
    _, _, enlarged, _ = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    loader = trainer.dataloader_train.loader.data_loader
    assert list(loader.patch_size)[-len(patch) :] == list(enlarged)
    assert list(enlarged) != patch
    raw = loader.generate_train_batch()
    assert list(raw["data"].shape[2:]) == list(enlarged)
    for batches in (trainer.dataloader_train, trainer.dataloader_val):
        batch = next(batches)
        assert list(batch["data"].shape) == [trainer.batch_size, 1, *patch]
        assert len(batch["keys"]) == trainer.batch_size
        sizes = [list(target.shape[2:]) for target in batch["target"]]
        scales = trainer._get_deep_supervision_scales()
        assert sizes == [[round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in scales]
        assert all(int(target.min()) >= 0 for target in batch["target"]), "beyond the border is background"


def test_validation_patches_are_those_of_the_workers(run: Run) -> None:
    trainer = run.build("nnUNetTrainerScratch" + SUFFIX)
    trainer.on_train_start()
    stock = trainer.get_validation_transforms(trainer._get_deep_supervision_scales())
    loader = trainer.dataloader_val.loader.data_loader
    trainer.on_epoch_start()
    raw = loader.generate_train_batch()
    trainer.on_epoch_start()
    batch = next(trainer.dataloader_val)
    assert torch.equal(batch["data"], raw["data"])
    for i, (image, labels) in enumerate(zip(raw["data"], raw["target"], strict=True)):
        expected = stock(image=image, segmentation=labels.clone())["segmentation"]
        assert all(torch.equal(size[i], own) for size, own in zip(batch["target"], expected, strict=True))


def test_a_trainers_own_transforms_are_what_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run.build("nnUNetPretrainerSelfSupervised" + SUFFIX)
    black = ComposeTransforms([MultiplicativeBrightnessTransform((0, 0), True)])
    monkeypatch.setattr(type(trainer), "get_training_transforms", staticmethod(lambda *_, **__: black))
    trainer.on_train_start()
    assert not next(trainer.dataloader_train)["data"].any()
    assert next(trainer.dataloader_val)["data"].any()
    assert "get_training_transforms" not in vars(trainer), "nothing is left on the trainer"


def test_transforms_without_a_device_version_stay_in_the_workers_and_the_log_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = run.build("nnUNetPretrainerSelfSupervised" + SUFFIX)
    inherited = type(trainer).get_training_transforms

    def with_another(*args: Any, **kwargs: Any) -> ComposeTransforms:
        return ComposeTransforms([*inherited(*args, **kwargs).transforms, MedianFilterTransform(3)])

    monkeypatch.setattr(type(trainer), "get_training_transforms", with_another)
    trainer.on_train_start()
    assert list(next(trainer.dataloader_train)["data"].shape[2:]) == list(trainer.configuration_manager.patch_size)
    assert "Augmentation stays in the workers: MedianFilterTransform can't run on a device." in _log(trainer)
    (session,) = read_json(Path(trainer.output_folder) / "provenance.json")["sessions"]
    assert session["settings"] == {"augmentation_on_device": False}


def test_worker_processes_end_with_the_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    trainer = run.build("nnUNetTrainerScratch_1epochs_2iterations")
    before = set(multiprocessing.active_children())
    trainer.on_train_start()
    workers = set(multiprocessing.active_children()) - before
    assert workers
    monkeypatch.setattr(trainer, "on_train_start", lambda: None)
    trainer.run_training()
    for worker in workers:
        worker.join()  # if it didn't end, neither would this test


def test_on_a_cpu_it_is_off_unless_forced_and_one_line_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    trainer = run.build("nnUNetTrainerScratch" + SUFFIX)
    trainer.on_train_start()
    assert trainer.dataloader_train.data_loader.transforms is not None
    assert _log(trainer).count(VARIABLE) == 1


def test_another_value_ends_in_one_line_before_data_are_loaded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_loading(monkeypatch)
    monkeypatch.setenv(VARIABLE, "yes please")
    with pytest.raises(SystemExit) as caught:
        run.train("nnUNetTrainerScratch" + SUFFIX)
    assert VARIABLE in refusal(caught)
