"""Fitted heads in nnU-Net's own trainer, in the cases it knows: 3D, regions, an ignore label, a cascade, compiled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process, unwrapped
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.finetuning.features import output_layers
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.trainers import get_trainer_class
from tests.nnunet_data import write_blob_dataset, write_splits

NAME = "nnUNetTrainerScratch_fitted_2epochs_2iterations_seed0"
PATCH = (16, 32, 32)
CASCADE = "3d_cascade_fullres"
LABELS: dict[str, dict[str, Any]] = {
    "classes": {"labels": {"background": 0, "outer": 1, "inner": 2}},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "inner": 2}, "regions_class_order": [1, 2]},
    "ignore": {"labels": {"background": 0, "outer": 1, "ignore": 2}},
    "regions, ignore": {
        "labels": {"background": 0, "whole": [1, 2], "inner": 2, "ignore": 3},
        "regions_class_order": [1, 2],
    },
}


@pytest.fixture
def build(nnunet_folders: Path) -> Any:
    """Prepare a small 3D data set with these labels and build a trainer on it."""

    def built(labels: str, *, cascade: bool = False) -> Any:
        dataset = write_blob_dataset(nnunet_folders / "raw", 530, cases=4, shape=(32, 32, 16), labels=2)
        path = nnunet_folders / "raw" / dataset / "dataset.json"
        write_json(path, read_json(path) | LABELS[labels])
        folder = extract_fingerprint_in_process(dataset)
        plans = write_transfer_plans(
            dataset, profile="demo", configurations=["3d_fullres"], patch_size=PATCH, batch_size=2
        )
        preprocess_in_process(dataset, plans.stem, ["3d_fullres"])
        write_splits(folder)
        content = read_json(plans)
        if cascade:
            content["configurations"][CASCADE] = {"inherits_from": "3d_fullres", "previous_stage": "3d_fullres"}
            _write_previous_stage(nnunet_folders, folder, content, plans.stem)
        content["continue_training"] = False
        configuration = CASCADE if cascade else "3d_fullres"
        return get_trainer_class(NAME)(
            content, configuration, 0, read_json(folder / "dataset.json"), torch.device("cpu")
        )

    return built


def _write_previous_stage(folders: Path, preprocessed: Path, plans: dict[str, Any], plans_name: str) -> None:
    """Write, as what the first stage predicts, the reference shifted by a voxel."""
    data = preprocessed / plans["configurations"]["3d_fullres"]["data_identifier"]
    model = f"{NAME}__{plans_name}__3d_fullres"
    out = folders / "results" / preprocessed.name / model / "predicted_next_stage" / CASCADE
    out.mkdir(parents=True)
    kind = infer_dataset_class(str(data))
    cases = kind(str(data))
    for case in cases.identifiers:
        labels = np.asarray(cases.load_case(case)[1][:])[0]
        kind.save_seg(np.roll(labels.clip(0), 1, axis=-1).astype(np.uint8), str(out / case))


def _check(trainer: Any) -> None:
    """Start and go two steps: the fit lowers the loss of each layer, and training goes on from it."""
    trainer.on_train_start()
    done = read_json(Path(trainer.output_folder) / "fitted_heads.json")
    assert len(done["levels"]) == len(trainer._get_deep_supervision_scales())
    assert all(level["loss_after"] < level["loss_before"] for level in done["levels"])
    layer = output_layers(unwrapped(trainer.network))[-1]
    fitted = layer.weight.detach().clone()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    losses = [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert not torch.equal(layer.weight, fitted)
    # the first step is that of the warm-up, so the loss is still about what the fit left
    assert losses[0] < done["levels"][-1]["loss_before"]


@pytest.mark.parametrize("labels", LABELS)
def test_heads_are_fitted_in_3d_with_every_kind_of_label(labels: str, build: Any) -> None:
    trainer = build(labels)
    _check(trainer)
    outputs = read_json(Path(trainer.output_folder) / "fitted_heads.json")["outputs"]
    assert len(outputs) == trainer.label_manager.num_segmentation_heads


def test_patches_without_a_label_that_counts_leave_the_heads_random(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where few of many cases are labelled at all, the first patches may come from others alone."""
    trainer = build("ignore")
    trainer.initialize()
    loaders = trainer.get_dataloaders()

    def ignored() -> Iterator[dict[str, Any]]:
        for batch in loaders[0]:
            yield batch | {"target": [torch.full_like(target, 2) for target in batch["target"]]}

    monkeypatch.setattr(trainer, "get_dataloaders", lambda: (ignored(), loaders[1]))
    random = output_layers(unwrapped(trainer.network))[-1].weight.detach().clone()
    trainer.on_train_start()
    assert torch.equal(output_layers(unwrapped(trainer.network))[-1].weight, random)
    assert "the output layers stay random" in Path(trainer.log_file).read_text()


def test_heads_are_fitted_in_a_cascades_second_stage(build: Any) -> None:
    trainer = build("classes", cascade=True)
    _check(trainer)
    assert next(trainer.dataloader_train)["data"].shape[1] == 3, "the image and two labels of the stage before"


def test_a_compiled_network_gets_the_same_heads(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build("classes")
    plain.on_train_start()
    plans = plain.plans_manager.plans | {"continue_training": False}
    again = type(plain)(plans, "3d_fullres", 0, plain.dataset_json, torch.device("cpu"))
    again.initialize()
    # nnU-Net compiles on CUDA only; tracing is what wraps the network, not the backend
    again.network = torch.compile(again.network, backend="eager")
    again.on_train_start()
    first, second = (output_layers(unwrapped(t.network)) for t in (plain, again))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a.weight, b.weight)
        torch.testing.assert_close(a.bias, b.bias)
