"""Transfer plans: one architecture for all data sets, everything else by nnU-Net's rules."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

import nnunet_transfer as nt
from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
from nnunet_transfer.cli import main
from nnunet_transfer.errors import DataError, PlansError, SettingsError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.plans import PROFILES, write_transfer_plans
from nnunet_transfer.plans.architectures import divisor, with_dimensions
from nnunet_transfer.plans.transfer_plans import PlanSettings
from nnunet_transfer.sources import load_source
from tests.nnunet_data import write_blob_dataset
from tests.planned_data import network_of, planned_ready, save_plans_as_source


@pytest.fixture
def dataset(nnunet_folders: Path) -> str:
    return planned_ready(nnunet_folders, 11, (20, 36, 40))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_plans_networks_that_take_their_patches(dataset: str, profile: str) -> None:
    plans = read_json(write_transfer_plans(dataset, profile=profile))
    assert plans["plans_name"] == f"nnUNetPlans_{profile}"
    assert set(plans["configurations"]) >= {"2d", "3d_fullres"}
    for name in ("2d", "3d_fullres"):
        configuration = plans["configurations"][name]
        steps = divisor(configuration["architecture"])
        assert all(p % s == 0 for p, s in zip(configuration["patch_size"], steps, strict=True))
        assert configuration["batch_size"] >= 2
        with torch.device("meta"):
            network = network_of(configuration)
            out = network(torch.zeros(2, 1, *configuration["patch_size"]))
        assert out.shape == (2, 2, *configuration["patch_size"])
        assert configuration["architecture"] == PROFILES[profile].architecture(len(configuration["patch_size"]))


def test_data_settings_are_those_of_nnunets_own_planner_and_data_are_shared(
    dataset: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    plans = read_json(write_transfer_plans(dataset, profile="demo"))
    assert capsys.readouterr().out == ""
    ExperimentPlanner(dataset).plan_experiment()
    own = read_json(nnunet_folders / "preprocessed" / dataset / "nnUNetPlans.json")
    for name in ("2d", "3d_fullres"):
        mine, theirs = plans["configurations"][name], own["configurations"][name]
        different = {k for k in theirs if mine[k] != theirs[k]}
        assert different <= {"architecture", "patch_size", "batch_size"}
        assert mine["data_identifier"] == f"nnUNetPlans_{name}"
    assert {k: plans[k] for k in ("transpose_forward", "image_reader_writer")} == {
        k: own[k] for k in ("transpose_forward", "image_reader_writer")
    }
    # now that nnU-Net's plans exist the data are still shared
    assert write_transfer_plans(dataset, profile="demo").is_file()
    own["configurations"]["2d"]["spacing"] = [2.0, 2.0]
    write_json(nnunet_folders / "preprocessed" / dataset / "nnUNetPlans.json", own)
    again = read_json(write_transfer_plans(dataset, profile="demo", overwrite=True))
    assert again["configurations"]["2d"]["data_identifier"] == "nnUNetPlans_demo_2d"
    assert again["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"


def test_nnunets_own_architecture_gets_nnunets_own_patch_and_batch(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the profile is what nnU-Net would have built, everything agrees with nnU-Net."""
    name = planned_ready(nnunet_folders, 12, (130, 130, 130))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    ExperimentPlanner(name).plan_experiment()
    own = read_json(nnunet_folders / "preprocessed" / name / "nnUNetPlans.json")["configurations"]["3d_fullres"]
    mine = read_json(write_transfer_plans(name, profile="plain"))["configurations"]["3d_fullres"]
    mine["architecture"]["_kw_requires_import"] = list(mine["architecture"]["_kw_requires_import"])
    assert own["patch_size"] == [128, 128, 128]
    assert mine == own


def test_given_sizes_are_used_and_marked(dataset: str) -> None:
    path = write_transfer_plans(dataset, profile="demo", patch_size=(32, 24), batch_size=5, configurations=["2d"])
    plans = read_json(path)
    assert plans["configurations"]["2d"]["patch_size"] == [32, 24]
    assert plans["configurations"]["2d"]["batch_size"] == 5
    assert plans["transfer"]["origin"]["patch_size"] == plans["transfer"]["origin"]["batch_size"] == "given by the user"


def test_slices_of_one_voxel_have_no_3d_configuration(nnunet_folders: Path) -> None:
    name = planned_ready(nnunet_folders, 14, (1, 40, 40))
    assert list(read_json(write_transfer_plans(name, profile="demo"))["configurations"]) == ["2d"]
    with pytest.raises(PlansError, match=r"plans no 3d_fullres .* there are: 2d"):
        write_transfer_plans(name, profile="demo", configurations=["3d_fullres"], overwrite=True)


def test_other_plans_of_the_same_name_are_kept(dataset: str) -> None:
    path = write_transfer_plans(dataset, profile="demo")
    stamp = path.stat().st_mtime_ns
    assert write_transfer_plans(dataset, profile="demo") == path
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(PlansError, match="exists and differs"):
        write_transfer_plans(dataset, profile="demo", batch_size=3)
    write_transfer_plans(dataset, profile="demo", batch_size=3, overwrite=True)
    assert read_json(path)["configurations"]["2d"]["batch_size"] == 3


def test_another_configuration_is_added_to_the_plans(dataset: str) -> None:
    path = write_transfer_plans(dataset, profile="demo", configurations=["2d"], patch_size=(32, 24))
    first = read_json(path)
    write_transfer_plans(dataset, profile="demo", configurations=["3d_fullres"])
    both = read_json(path)
    assert list(both["configurations"]) == ["2d", "3d_fullres"]
    assert both["configurations"]["2d"] == first["configurations"]["2d"]
    assert both["transfer"]["origin"] == first["transfer"]["origin"]
    added = both["transfer"]["origin_of_added"]["3d_fullres"]
    assert added["patch_size"] == "nnU-Net's rule for this network's memory"
    alone = read_json(write_transfer_plans(dataset, profile="demo", configurations=["3d_fullres"], name="alone"))
    alone["configurations"]["3d_fullres"]["data_identifier"] = "nnUNetPlans_3d_fullres"
    assert both["configurations"]["3d_fullres"] == alone["configurations"]["3d_fullres"]
    stamp = path.stat().st_mtime_ns
    write_transfer_plans(dataset, profile="demo", configurations=["3d_fullres"])
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(PlansError, match="exists and differs in batch_size of 3d_fullres"):
        write_transfer_plans(dataset, profile="demo", configurations=["3d_fullres"], batch_size=7)
    with pytest.raises(PlansError, match=r"exists and differs in transfer\.rules.* `nnunet_transfer plan --overwrite`"):
        write_transfer_plans(dataset, profile="demo", configurations=["3d_fullres"], rules={"kernel": "mean"})


@pytest.mark.parametrize("wanted", ["3d_lowres", "3d_cascade_fullres"])
def test_a_cascade_is_planned_as_a_whole(nnunet_folders: Path, wanted: str) -> None:
    name = planned_ready(nnunet_folders, 16, (48, 48, 48))
    plans = read_json(write_transfer_plans(name, profile="demo", configurations=[wanted], patch_size=(16, 16, 16)))
    assert list(plans["configurations"]) == ["3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    # each stage is found from the other one, and what is inherited is there
    manager = PlansManager(plans)
    low, full = (manager.get_configuration(c) for c in ("3d_lowres", "3d_cascade_fullres"))
    assert (low.next_stage_names, full.previous_stage_name) == (["3d_cascade_fullres"], "3d_lowres")
    assert full.spacing == manager.get_configuration("3d_fullres").spacing < low.spacing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a profile, a source, or both"),
        ({"profile": "resnet81"}, "did you mean resnet18"),
        ({"profile": "demo", "patch_size": (30, 32)}, "use 32 32"),
        ({"profile": "demo", "patch_size": (0, 32)}, "use 8 32"),
        ({"profile": "demo", "patch_size": (32,)}, "has 1 axes"),
        ({"profile": "demo", "configurations": ["4d"]}, "plans no 4d"),
        ({"profile": "demo", "batch_size": 0}, "at least 1"),
        ({"profile": "demo", "gpu_memory": 0}, "above 0"),
        ({"profile": "demo", "gpu_memory": float("nan")}, "above 0"),
        ({"profile": "demo", "target_spacing": (1, 1)}, "three numbers"),
        ({"profile": "demo", "target_spacing": (1, 1, -1)}, "three numbers"),
        ({"profile": "demo", "name": "a__b"}, "must not contain"),
        # its folder would be TRAINER__nnUNetPlans___2d, of a configuration _2d
        ({"profile": "demo", "name": "nnUNetPlans_"}, "nor end in '_'"),
        *(
            ({"profile": "demo", "name": name, "overwrite": True}, "is not for plans")
            for name in ("dataset", "splits_final", "dataset_fingerprint", "..")
        ),
        ({"profile": "demo", "follow_source": ["spacing"]}, "can only be taken from a source"),
        ({"profile": "demo", "follow_source": ["colour"]}, "can't set colour"),
    ],
)
def test_wrong_requests_are_refused_and_write_nothing(
    dataset: str, nnunet_folders: Path, options: dict[str, Any], message: str
) -> None:
    folder = nnunet_folders / "preprocessed" / dataset
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(PlansError, match=message):
        write_transfer_plans(dataset, **options)
    assert all(path.read_bytes() == content for path, content in before.items())
    # nnU-Net's planner copies dataset.json
    assert not any("configurations" in read_json(path) for path in folder.glob("*.json"))


def test_the_intensities_of_small_images_take_little_memory(nnunet_folders: Path) -> None:
    name = write_blob_dataset(nnunet_folders / "raw", 16, cases=2, shape=(16, 16, 4))
    tracemalloc.start()
    folder = extract_fingerprint_in_process(16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # bytes; a hundred million floats take 4e8
    intensities = []
    for case in ("case00", "case01"):
        image = nib.load(nnunet_folders / "raw" / name / "imagesTr" / f"{case}_0000.nii.gz")
        label = nib.load(nnunet_folders / "raw" / name / "labelsTr" / f"{case}.nii.gz")
        intensities.append(np.asarray(image.dataobj)[np.asarray(label.dataobj) > 0])
    found = read_json(folder / "dataset_fingerprint.json")["foreground_intensity_properties_per_channel"]["0"]
    # each case counts the same, and no voxel is left out
    assert found["mean"] == pytest.approx(np.mean([values.mean() for values in intensities]), rel=1e-3)
    assert (found["min"], found["max"]) == (min(v.min() for v in intensities), max(v.max() for v in intensities))


def test_missing_fingerprint_or_raw_data_name_the_cure(nnunet_folders: Path) -> None:
    name = write_blob_dataset(nnunet_folders / "raw", 15, cases=2)
    with pytest.raises(PlansError, match="nnUNetv2_extract_fingerprint -d 15"):
        write_transfer_plans(15, profile="demo")
    (nnunet_folders / "raw" / name / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"no dataset\.json"):
        write_transfer_plans(15, profile="demo")


def test_splits_that_contradict_each_other_are_reported(dataset: str, nnunet_folders: Path) -> None:
    write_json(nnunet_folders / "raw" / dataset / "splits_final.json", [{"train": ["case00"], "val": ["case01"]}])
    write_json(
        nnunet_folders / "preprocessed" / dataset / "splits_final.json", [{"train": ["case01"], "val": ["case00"]}]
    )
    with pytest.raises(PlansError, match=r"splits_final\.json"):
        write_transfer_plans(dataset, profile="demo")


def test_the_plans_preprocess(dataset: str, nnunet_folders: Path) -> None:
    path = write_transfer_plans(dataset, profile="demo", configurations=["2d"])
    preprocess_in_process(dataset, path.stem, ["2d"])
    assert len(list((nnunet_folders / "preprocessed" / dataset / "nnUNetPlans_2d").glob("*.pkl"))) == 2


@pytest.mark.parametrize("profile", PROFILES)
def test_changing_the_number_of_axes_there_and_back_changes_nothing(profile: str) -> None:
    p = PROFILES[profile]
    flat = p.architecture(2)
    assert with_dimensions(with_dimensions(flat, 3), 2) == flat
    if p.norms[0] == p.norms[1]:
        assert with_dimensions(flat, 3) == p.architecture(3)


def test_anisotropic_architectures_lose_and_regain_their_first_axis() -> None:
    kwargs = {"n_stages": 2, "kernel_sizes": [[1, 3, 3], [3, 3, 3]], "strides": [1, [1, 2, 2]], "conv_op": "m.Conv3d"}
    flat = with_dimensions({"arch_kwargs": kwargs}, 2)["arch_kwargs"]
    assert flat["kernel_sizes"] == [[3, 3], [3, 3]]
    assert flat["strides"] == [[1, 1], [2, 2]]
    assert flat["conv_op"] == "m.Conv2d"


def test_rules_of_adaptation_stand_in_the_plans(
    dataset: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["plan", "-d", "11", "--profile", "demo", "-c", "2d", "--rules"]
    assert main([*asked, "inflation=centre", "minimum_encoder=0.5"]) == 0
    rules = read_json(Path(capsys.readouterr().out.strip()))["transfer"]["rules"]
    assert (rules["inflation"], rules["kernel"], rules["minimum_encoder"]) == ("centre", "sum", 0.5)
    assert main([*asked, "inflation=up"]) == 2
    assert "there are: mean, centre" in capsys.readouterr().err
    # the same in Python
    settings = PlanSettings(configurations=("2d",), rules={"inflation": "centre", "minimum_encoder": 0.5})
    assert read_json(nt.plan(11, profile="demo", settings=settings))["transfer"]["rules"] == rules
    with pytest.raises(SettingsError, match="there is no rule inflaton"):
        nt.plan(11, profile="demo", settings=replace(settings, rules={"inflaton": "centre"}, name="nnUNetPlans_odd"))
    assert not list((nnunet_folders / "preprocessed" / dataset).glob("*odd*"))


def test_command_line(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-d", "11", "--profile", "demo", "-c", "2d", "--patch-size", "32", "32"]) == 0
    path = Path(capsys.readouterr().out.strip())
    save_plans_as_source("mine", read_json(path)["configurations"]["2d"], trained_on=("Dataset011_Blobs",))
    assert main(["plan", "-d", "11", "--source", "min"]) == 2
    assert "did you mean mine" in capsys.readouterr().err
    assert main(["plan", "-d", "11", "--source", "mine"]) == 0
    assert capsys.readouterr().out.strip().endswith("nnUNetPlans_from_mine.json")
    assert main(["sources", "list"]) == 0
    assert "mine" in capsys.readouterr().out.splitlines()[1]
    assert main(["sources", "show", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trained_on"] == ["Dataset011_Blobs"]
    assert main(["sources", "verify"]) == 0
    with open(load_source("mine").weights, "ab") as stream:
        stream.write(b"x")
    assert main(["sources", "verify", "mine"]) == 1
    assert "was changed" in capsys.readouterr().out
    (load_source("mine").weights.parent / "source.json").write_text("{")
    assert main(["sources", "verify"]) == 1
    assert "mine: " in capsys.readouterr().out


def test_a_spacing_in_which_images_have_no_voxel_is_refused(dataset: str) -> None:
    with pytest.raises(PlansError, match="with this spacing"):
        write_transfer_plans(dataset, profile="demo", target_spacing=(1e6, 1e-6, 1.0))
