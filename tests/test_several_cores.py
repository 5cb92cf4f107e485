"""What a study runs for users with several cores or a GPU: nnU-Net's own fingerprint, preprocessing and training."""

from __future__ import annotations

import multiprocessing
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_transfer import _nnunet
from nnunet_transfer.files import read_json
from nnunet_transfer.study import Study, read_study, study_jobs
from nnunet_transfer.study.forked import run_forked
from nnunet_transfer.study.steps import run_job
from tests.nnunet_data import write_blob_dataset

TRAINING = "finetune-blobs-nnUNetTrainerScratch_1epochs_2iterations_seed0-f0"


def run_study(folder: Path, **changes: Any) -> Study:
    """Run a study on a data set that lies in nnU-Net's folder, up to its first training."""
    write_blob_dataset(folder / "study" / "nnUNet_raw", 31)
    content = {
        "name": "study",
        "profile": "demo",
        "configuration": "2d",
        "plans": {"batch_size": 2, "patch_size": [32, 32]},
        "datasets": {"blobs": {"id": 31}},
        "targets": {"blobs": {"dataset": "blobs", "folds": [0]}},
        "seeds": [0],
        "training": {"epochs": 1, "iterations": 2},
        "environment": {"nnUNet_n_proc_DA": 0, "nnUNet_def_n_proc": 0, "nnUNet_compile": "f"},
    }
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    study = read_study(file)
    jobs = study_jobs(study)
    for name in ("convert-blobs", "plan-blobs", "preprocess-blobs", TRAINING):
        run_job(study, jobs[name])
    return study


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """nnU-Net's pools with threads of this process, its GPU the CPU, few voxels; gives which of its ways were taken."""
    found: list[str] = []

    def pool(processes: int) -> ThreadPool:
        found.append("pool")
        return ThreadPool(processes)

    def training(*arguments: Any, device: torch.device) -> None:
        found.append(f"training on {device}")
        stock(*arguments, device=torch.device("cpu"))

    def few_voxels(segmentation: Any, images: Any, num_samples: int, **rest: Any) -> Any:
        return collect(segmentation, images, num_samples=min(num_samples, 1000), **rest)

    stock, collect = _nnunet.run_stock_training, DatasetFingerprintExtractor.collect_foreground_intensities
    monkeypatch.setattr(_nnunet, "run_stock_training", training)
    monkeypatch.setattr(DatasetFingerprintExtractor, "collect_foreground_intensities", staticmethod(few_voxels))
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=pool))
    # a process may say this once, before it computes anything
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda number: None)
    return found


def weights(study: Study) -> dict[str, torch.Tensor]:
    """Return what the training ended with."""
    (file,) = study.folders["nnUNet_results"].glob("*/*/fold_0/checkpoint_final.pth")
    assert (file.parent / "validation" / "summary.json").is_file()
    content = torch.load(file, weights_only=False)
    tensors: dict[str, torch.Tensor] = content["network_weights"]
    return tensors


@pytest.mark.slow
def test_several_cores_and_a_gpu_take_nnunets_own_ways_to_the_same_result(tmp_path: Path, called: list[str]) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "several").mkdir()
    # with one core nothing starts a process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            multiprocessing.process.BaseProcess, "start", lambda process: pytest.fail(f"{process} was started")
        )
        one = run_study(tmp_path / "one", device="cpu")
    assert called == []
    resources = {kind: {"cpus": 2} for kind in ("plan", "preprocess")}
    several = run_study(tmp_path / "several", device="cuda", resources=resources)
    assert called == ["pool", "pool", "training on cuda"]

    folders = [study.folders["nnUNet_preprocessed"] / "Dataset031_Blobs" for study in (one, several)]
    fingerprint, other = (read_json(folder / "dataset_fingerprint.json") for folder in folders)
    assert other == fingerprint
    cases = sorted(path.name for path in (folders[0] / "gt_segmentations").iterdir())
    assert sorted(path.name for path in (folders[1] / "gt_segmentations").iterdir()) == cases
    data = [infer_dataset_class(str(folder / "nnUNetPlans_2d"))(str(folder / "nnUNetPlans_2d")) for folder in folders]
    for case in data[0].identifiers:
        (image, label, *_), (other_image, other_label, *_) = (part.load_case(case) for part in data)
        assert (image[:] == other_image[:]).all()
        assert (label[:] == other_label[:]).all()
    expected, found = weights(one), weights(several)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


#: a data set's description that notes how the step that reads it would start processes
_CURIOUS = """
import multiprocessing
from pathlib import Path
Path(__file__).with_suffix(".txt").write_text(multiprocessing.get_start_method())
"""


def test_a_forked_step_starts_processes_as_nnunets_commands_do(tmp_path: Path) -> None:
    (tmp_path / "curious.py").write_text(_CURIOUS)
    content = {
        "name": "study",
        "profile": "demo",
        "device": "cpu",
        "datasets": {"curious": {"id": 31, "converter": "curious.py", "path": "."}},
        "targets": {"curious": {"dataset": "curious"}},
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    server = multiprocessing.get_context("forkserver")
    step = server.Process(target=run_forked, args=(str(file), "convert-curious", str(tmp_path / "log"), 1))
    step.start()
    step.join()
    assert (tmp_path / "curious.txt").read_text() == multiprocessing.get_start_method()
    # the file describes no data set
    assert step.exitcode == 2
