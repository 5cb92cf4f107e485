"""Two processes with gloo on the CPU: nnU-Net's entry point allows DDP on CUDA only, the trainer's steps don't care."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process, unwrapped
from nnunet_transfer.files import read_json
from nnunet_transfer.finetuning.whole_batches import whole_batches
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.trainers import get_trainer_class
from tests.nnunet_data import write_blob_dataset, write_splits
from tests.sources import save_random_source
from tests.warm import start_two

EPOCHS = 2
PLAIN = "nnUNetTrainerT1Segmentation_warmup_2epochs_2iterations_seed3"
#: the output layers learn alone in the first of ten epochs
THAWED = "nnUNetTrainerT1Segmentation_lpft_10epochs_2iterations_seed3"
FROZEN = "nnUNetTrainerT1Segmentation_frozenEncoder_2epochs_2iterations_seed3"
#: the first process fits the output layers, the second receives them
FITTED = "nnUNetTrainerT1Segmentation_fitted_2epochs_2iterations_seed3"


def _rank(rank: int, folders: str, dataset: str, plans: str, name: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folders}/rendezvous", rank=rank, world_size=2)
    try:
        trainer = _build(Path(folders), dataset, plans, name)
        # nnU-Net picks CUDA under DDP and wraps with device ids, which the CPU refuses: wrap here instead
        trainer.device = torch.device("cpu")
        trainer.grad_scaler = None
        trainer.is_ddp = False
        trainer.initialize()
        trainer.is_ddp = True
        trainer._set_batch_size_and_oversample()
        trainer.loss = trainer._build_loss()
        trainer.network = torch.nn.parallel.DistributedDataParallel(trainer.network)
        trainer.on_train_start()
        # with its own part of the batch again, the first one without patches around foreground
        assert (trainer.batch_size, trainer.oversample_foreground_percent) == (2, rank / 2)
        assert len(next(trainer.dataloader_train)["data"]) == len(next(trainer.dataloader_val)["data"]) == 2
        weights = [_weights(trainer.network)]
        for _ in range(EPOCHS):
            trainer.on_epoch_start()
            trainer.on_train_epoch_start()
            outputs = [trainer.train_step(next(trainer.dataloader_train)) for _ in range(2)]
            trainer.on_train_epoch_end(outputs)
            with torch.no_grad():
                trainer.on_validation_epoch_start()
                trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
            trainer.on_epoch_end()
            weights.append(_weights(trainer.network))
        trainer.on_train_end()
        torch.save(weights, f"{folders}/rank{rank}.pt")
    finally:
        dist.destroy_process_group()


def _build(folders: Path, dataset: str, plans: str, name: str) -> Any:
    folder = folders / "preprocessed" / dataset
    content = read_json(folder / f"{plans}.json") | {"continue_training": False}
    return get_trainer_class(name)(content, "2d", 0, read_json(folder / "dataset.json"), torch.device("cpu"))


def _weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in unwrapped(network).state_dict().items()}


def _moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], part: str) -> bool:
    names = [k for k in before if k.startswith(f"{part}.stages.") and k.endswith("conv.weight")]
    assert names
    return any(not torch.equal(before[k], after[k]) for k in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoder_moves", "decoder_moves"),
    [
        (PLAIN, (True, True), (True, True)),
        (FITTED, (True, True), (True, True)),
        (THAWED, (False, True), (False, True)),
        (FROZEN, (False, False), (True, True)),
    ],
)
def test_two_processes_start_from_the_source_and_stay_equal(
    nnunet_folders: Path, name: str, encoder_moves: tuple[bool, ...], decoder_moves: tuple[bool, ...]
) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 503, cases=4, shape=(32, 32, 3))
    preprocessed = extract_fingerprint_in_process(dataset)
    plans = write_transfer_plans(dataset, profile="demo", configurations=["2d"], patch_size=(32, 32), batch_size=4).stem
    preprocess_in_process(dataset, plans, ["2d"])
    write_splits(preprocessed)
    source = save_random_source("t1_segmentation", preprocessed / f"{plans}.json", "2d", labels=2)

    start_two(_rank, str(nnunet_folders), dataset, plans, name)

    first, second = (torch.load(nnunet_folders / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    for key, value in source.items():
        if "seg_layers" not in key:
            assert torch.equal(first[0][key], value), key
    for epoch in range(EPOCHS + 1):
        assert all(torch.equal(first[epoch][k], second[epoch][k]) for k in first[epoch]), epoch
    for epoch, moves in enumerate(encoder_moves):
        heads = [key for key in first[epoch] if "seg_layers" in key and key.endswith("weight")]
        assert any(not torch.equal(first[epoch][key], first[epoch + 1][key]) for key in heads), epoch
        assert _moved(first[epoch], first[epoch + 1], "decoder") == decoder_moves[epoch], epoch
        assert _moved(first[epoch], first[epoch + 1], "encoder") == moves, epoch
    fold = nnunet_folders / "results" / dataset / f"{name}__{plans}__2d" / "fold_0"
    assert (fold / "checkpoint_final.pth").exists()
    fitted = read_json(fold / "transfer_report.json").get("fitted_heads")
    assert bool(fitted) == (name == FITTED)
    if fitted:
        assert all(level["loss_after"] < level["loss_before"] for level in fitted["levels"])
        # as many patches around foreground as in a single process: the same fit
        alone = _build(nnunet_folders, dataset, plans, name)
        alone.on_train_start()
        expected = read_json(fold / "fitted_heads.json")
        for key in ("patches", "validation_patches", "mean_dice"):
            assert fitted[key] == pytest.approx(expected[key]), key
        for key, value in _weights(alone.network).items():
            torch.testing.assert_close(first[0][key], value)


class _Loader:
    """A loader with workers to end."""

    ended = False

    def _finish(self) -> None:
        self.ended = True


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_whole_batches_are_drawn_for_a_while_by_workers_that_are_ended(error: type[Exception] | None) -> None:
    trainer = SimpleNamespace(
        is_ddp=True, batch_size=2, oversample_foreground_percent=0.0, dataloader_train="training", dataloader_val="validation",
        whole_oversampling=0.33, configuration_manager=SimpleNamespace(batch_size=4),
        get_dataloaders=lambda: (_Loader(), _Loader()),
    )  # fmt: skip
    before = dict(vars(trainer))
    with pytest.raises(error) if error else nullcontext(), whole_batches(trainer):  # type: ignore[arg-type]
        assert (trainer.batch_size, trainer.oversample_foreground_percent) == (4, 0.33)
        loaders = trainer.dataloader_train, trainer.dataloader_val
        if error:
            raise error
    assert vars(trainer) == before
    assert all(loader.ended for loader in loaders)

    trainer.is_ddp = False
    with whole_batches(trainer):  # type: ignore[arg-type]
        assert vars(trainer) == before | {"is_ddp": False}
