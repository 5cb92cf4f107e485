"""Small preprocessed data sets with something to learn from each case, and pre-trainings on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.distributed as dist
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_transfer._nnunet import (
    extract_fingerprint_in_process,
    preprocess_in_process,
    run_training_in_process,
    unwrapped,
)
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.naming import PRETRAINERS
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.trainers import get_trainer_class
from tests.nnunet_data import Prepared, make_folders, write_blob_dataset, write_splits

ALL = sorted(PRETRAINERS)
WITHOUT_MASKS = [base for base in ALL if base != "nnUNetPretrainerSegmentation"]
CPU = torch.device("cpu")
CONFIGURATIONS = {"2d": ((32, 32, 3), (32, 32)), "3d_fullres": ((32, 32, 16), (16, 32, 32))}
CASES = 8


def is_striped(i: int) -> bool:
    """Whether case `i` has stripes; in both folds half of the cases have."""
    return bool(i // 2 % 2)


def is_spotted(i: int) -> bool:
    """Whether case `i` has a dark spot, independently of the stripes."""
    return bool(i // 4 % 2)


def _write_patterns(raw_dataset: Path) -> None:
    """Draw stripes and spots; the class table is of the stripes."""
    lines = ["case,class"]
    for i in range(CASES):
        lines.append(f"case{i:02d},{'striped' if is_striped(i) else 'plain'}")
        path = raw_dataset / "imagesTr" / f"case{i:02d}_0000.nii.gz"
        image = nib.load(path)
        data = np.asarray(image.dataobj).copy()
        data += 10.0 * is_striped(i) * (np.arange(data.shape[0]) // 4 % 2)[:, None, None]
        data[11:21, 11:21] -= 20.0 * is_spotted(i)
        nib.save(nib.Nifti1Image(data, image.affine), path)
    (raw_dataset / "classes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Preprocess a data set for each configuration."""
    result = {}
    for number, (configuration, (shape, patch)) in enumerate(CONFIGURATIONS.items()):
        root = tmp_path_factory.mktemp(configuration)
        with pytest.MonkeyPatch.context() as patcher:
            make_folders(root, patcher)
            dataset = write_blob_dataset(root / "raw", 510 + number, cases=CASES, shape=shape)
            _write_patterns(root / "raw" / dataset)
            preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
            plans = write_transfer_plans(
                dataset, profile="demo", configurations=[configuration], patch_size=patch, batch_size=4
            ).stem
            preprocess_in_process(dataset, plans, [configuration])
            write_splits(preprocessed)
        result[configuration] = (root, dataset, plans)
    return result


class Run:
    """A copy of a prepared data set, and trainings on it."""

    def __init__(self, folders: Path, dataset: str, plans: str, configuration: str) -> None:
        self.folders, self.dataset, self.plans, self.configuration = folders, dataset, plans, configuration
        self.preprocessed = folders / "preprocessed" / dataset
        self.raw = folders / "raw" / dataset

    def build(self, trainer: str, fold: int | str = 0, continue_training: bool = False) -> Any:
        content = read_json(self.preprocessed / f"{self.plans}.json") | {"continue_training": continue_training}
        dataset_json = read_json(self.preprocessed / "dataset.json")
        return get_trainer_class(trainer)(content, self.configuration, fold, dataset_json, CPU)

    def train(self, trainer: str, fold: int | str = 0, continue_training: bool = False) -> Any:
        return run_training_in_process(
            self.dataset,
            self.configuration,
            fold,
            get_trainer_class(trainer),
            self.plans,
            device=CPU,
            continue_training=continue_training,
        )

    def output(self, trainer: str, fold: int | str = 0) -> Path:
        model = f"{trainer}__{self.plans}__{self.configuration}"
        return self.folders / "results" / self.dataset / model / f"fold_{fold}"

    def write_table(self, column: str, cells: list[str]) -> None:
        """Replace the class table by one with this column and a cell per case."""
        rows = "".join(f"case{i:02d},{cell}\n" for i, cell in enumerate(cells))
        (self.raw / "classes.csv").write_text(f"case,{column}\n{rows}", encoding="utf-8")

    def set_in_dataset_json(self, **entries: Any) -> None:
        path = self.preprocessed / "dataset.json"
        write_json(path, read_json(path) | entries)


def a_run(prepared: Prepared, configuration: str, folders: Path) -> Run:
    """Copy a prepared data set to nnU-Net's folders."""
    root, dataset, plans = prepared[configuration]
    shutil.copytree(root, folders, dirs_exist_ok=True)
    return Run(folders, dataset, plans, configuration)


def refuse_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if data are loaded."""

    def _loaded(_: Any) -> None:
        raise AssertionError("data were loaded")

    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", _loaded)


def refusal(caught: pytest.ExceptionInfo[SystemExit]) -> str:
    """Return the one line that a training ended with."""
    message = caught.value.code
    assert isinstance(message, str), "no message: the exit code would be 0"
    assert "\n" not in message
    return message


@contextmanager
def one_of_two(rank: int, run: Run, name: str) -> Iterator[Any]:
    """Give the trainer of one of two processes; save its weights as `rank<N>.pt` in the end."""
    dist.init_process_group("gloo", init_method=f"file://{run.folders}/rendezvous", rank=rank, world_size=2)
    try:
        trainer = run.build(name)
        # nnU-Net picks CUDA under DDP and wraps with device ids, which the CPU refuses: wrap here instead
        trainer.device, trainer.grad_scaler, trainer.is_ddp = CPU, None, False
        trainer.initialize()
        trainer.is_ddp = True
        trainer._set_batch_size_and_oversample()
        trainer.network = torch.nn.parallel.DistributedDataParallel(trainer.network)
        yield trainer
        torch.save(unwrapped(trainer.network).state_dict(), f"{run.folders}/rank{rank}.pt")
    finally:
        dist.destroy_process_group()
