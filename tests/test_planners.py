"""Planners for nnU-Net's own commands: found by name once asked for, harmless otherwise."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nnunetv2
import pytest
import torch

from nnunet_transfer.cli import main
from nnunet_transfer.errors import PlansError, SourceError
from nnunet_transfer.files import read_json
from nnunet_transfer.planners import get_planner_class, installed_file, planner_names
from nnunet_transfer.planners.placing import SHIM
from nnunet_transfer.plans import PROFILES, write_transfer_plans
from tests.checkpoint_files import build
from tests.planned_data import planned_ready
from tests.sources import save_random_source


@pytest.fixture
def dataset(nnunet_folders: Path) -> str:
    return planned_ready(nnunet_folders, 11, (20, 36, 40))


@pytest.fixture
def nnunet_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for nnU-Net's, so that the real one is left alone."""
    folder = tmp_path / "site" / "nnunetv2" / "experiment_planning"
    folder.mkdir(parents=True)
    spec = SimpleNamespace(origin=str(folder.parent / "__init__.py"))
    monkeypatch.setattr("nnunet_transfer.planners.placing.find_spec", lambda name: spec)
    return folder


def test_the_file_comes_and_goes_when_asked_for(nnunet_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert installed_file() is None
    assert main(["planners"]) == 0
    listed = capsys.readouterr().out
    assert "use --install" in listed
    assert all(f"nnUNetPlannerTransfer_{name} " in listed for name in PROFILES)
    assert list(nnunet_folder.iterdir()) == []
    for _ in range(2):
        assert main(["planners", "--install"]) == 0
        assert capsys.readouterr().out.strip() == str(installed_file()) == str(nnunet_folder / SHIM.name)
    assert main(["planners"]) == 0
    assert f"finds them through {nnunet_folder}" in capsys.readouterr().out
    assert main(["planners", "--remove"]) == 0
    assert list(nnunet_folder.iterdir()) == []
    assert main(["planners", "--remove"]) == 0
    assert "no such file" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["--install", "--remove"])
def test_what_the_system_forbids_is_one_line(
    nnunet_folder: Path, action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["planners", "--install"]) == 0

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nnunet_transfer.planners.placing.shutil.copyfile", forbidden)
    monkeypatch.setattr(Path, "unlink", forbidden)
    capsys.readouterr()
    assert main(["planners", action]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert str(nnunet_folder) in message


def test_without_nnunet_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nnunet_transfer.planners.placing.find_spec", lambda name: None)
    assert main(["planners", "--install"]) == 2
    assert "pip install nnunetv2" in capsys.readouterr().err


def test_nnunets_own_look_up_finds_them_and_its_options_count(
    dataset: str, nnunet_folder: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nnunetv2.experiment_planning as planning
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    assert main(["planners", "--install"]) == 0
    monkeypatch.setattr(nnunetv2, "__path__", [str(nnunet_folder.parent)])
    monkeypatch.setattr(planning, "__path__", [*planning.__path__, str(nnunet_folder)])
    assert plan_experiments([11], "nnUNetPlannerTransfer_demo") == "nnUNetPlans_demo"
    folder = nnunet_folders / "preprocessed" / dataset
    found = read_json(folder / "nnUNetPlans_demo.json")
    assert found == read_json(write_transfer_plans(dataset, profile="demo"))
    name = plan_experiments(
        [11], "nnUNetPlannerTransfer_demo", 2.0, "DefaultPreprocessor", (2.0, 1.5, 1.5), "nnUNetPlans_small"
    )
    small = read_json(folder / f"{name}.json")
    assert small["configurations"]["3d_fullres"]["spacing"] == [2.0, 1.5, 1.5]
    assert small["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_small_3d_fullres"
    assert small["transfer"]["origin"]["spacing"] == "given by the user"
    assert small["configurations"]["2d"]["batch_size"] <= found["configurations"]["2d"]["batch_size"]
    save_random_source("mine", folder / "nnUNetPlans_demo.json", "2d")
    assert plan_experiments([11], "nnUNetPlannerTransfer_from_mine") == "nnUNetPlans_from_mine"
    assert read_json(folder / "nnUNetPlans_from_mine.json")["transfer"]["source"] == "mine"
    with pytest.raises(SystemExit, match="exists and differs"):
        plan_experiments([11], "nnUNetPlannerTransfer_demo", overwrite_target_spacing=(2.0, 1.5, 1.5))
    with pytest.raises(SystemExit, match="did you mean resnet18"):
        plan_experiments([11], "nnUNetPlannerTransfer_resnet81")
    monkeypatch.delitem(sys.modules, f"{planning.__name__}.{SHIM.stem}")
    monkeypatch.delattr(planning, SHIM.stem)


def test_the_file_minds_its_own_business_only() -> None:
    spec = importlib.util.spec_from_file_location("shim", SHIM)
    assert spec is not None
    assert spec.loader is not None
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)
    assert shim.nnUNetPlannerTransfer_resnet18 is get_planner_class("nnUNetPlannerTransfer_resnet18")
    assert not hasattr(shim, "ExperimentPlanner")
    assert not hasattr(shim, "nnUNetPlannerResEncM")


def test_names_tell_the_profile_or_the_source(nnunet_folders: Path) -> None:
    for name in planner_names():
        assert get_planner_class(name).__name__ == name
    with pytest.raises(PlansError, match="unknown profile"):
        get_planner_class("nnUNetPlannerTransfer_x")
    with pytest.raises(SourceError, match="no source x"):
        get_planner_class("nnUNetPlannerTransfer_from_x")


def test_patch_and_batch_fit_the_memory_that_is_given(nnunet_folders: Path) -> None:
    name = planned_ready(nnunet_folders, 12, (160, 160, 160))
    profile, sizes = PROFILES["resnet18"], []
    for gigabytes in (2, 8, 32):
        plans = read_json(
            write_transfer_plans(
                name, profile="resnet18", gpu_memory=gigabytes, name=f"p{gigabytes}", configurations=["3d_fullres"]
            )
        )
        configuration = plans["configurations"]["3d_fullres"]
        with torch.device("meta"):
            need = build(profile.architecture(3)).compute_conv_feature_map_size(configuration["patch_size"])
        # nnU-Net's reference is for batches of two
        assert need <= profile.memory.reference_3d * gigabytes / profile.memory.gigabytes
        sizes.append(math.prod(configuration["patch_size"]) * configuration["batch_size"])
        assert plans["transfer"]["origin"]["gpu_memory"] == f"{gigabytes} GB, given by the user"
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.slow
def test_stock_command_from_a_fresh_process(dataset: str, nnunet_folders: Path, tmp_path: Path) -> None:
    """nnU-Net's entry point, in a copy of its package made of links, with the file in place."""
    real, copy = Path(nnunetv2.__path__[0]), tmp_path / "copy" / "nnunetv2"
    (copy / "experiment_planning").mkdir(parents=True)
    for folder in (real, real / "experiment_planning"):
        for entry in folder.iterdir():
            target = copy / entry.relative_to(real)
            if not target.exists() and entry.name != "__pycache__":
                target.symlink_to(entry)
    environment = {**os.environ, "PYTHONPATH": str(copy.parent)}
    enter = "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_experiment_entry as e; e()"
    for command in (
        [sys.executable, "-m", "nnunet_transfer.cli", "planners", "--install"],
        [sys.executable, "-c", enter, "-d", "11", "-pl", "nnUNetPlannerTransfer_resnet18"],
    ):
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    assert (copy / "experiment_planning" / SHIM.name).is_file()
    assert not (real / "experiment_planning" / SHIM.name).exists()
    plans = read_json(nnunet_folders / "preprocessed" / dataset / "nnUNetPlans_resnet18.json")
    assert plans["configurations"]["2d"]["architecture"] == PROFILES["resnet18"].architecture(2)
