"""What stands beside weights, plans above all, may name programs, belong to another network or be anything."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_transfer._nnunet import extract_fingerprint_in_process
from nnunet_transfer.checkpoints import add_source, inspect_checkpoint, reading
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.unpickling import process
from tests.checkpoint_files import build, nnunet_run, plans_architecture
from tests.nnunet_data import write_blob_dataset

pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read where the test runs: to start a process takes longer than to read a small file."""
    monkeypatch.setattr(reading, "answer_of", process.answer)


def evil_run(evidence: Path) -> dict[str, Any]:
    """Return a run whose plans name a function of the system's as the nonlinearity."""
    content = nnunet_run(build(plans_architecture()), architecture := plans_architecture())
    architecture["arch_kwargs"] |= {"nonlin": "os.mkdir", "nonlin_kwargs": {"path": str(evidence)}}
    return content


def test_plans_that_run_a_program_are_refused_by_its_name(tmp_path: Path) -> None:
    evidence, path = tmp_path / "evidence", tmp_path / "run.pth"
    torch.save(evil_run(evidence), path)
    assert evidence.name in str(evil_run(evidence)["init_args"]["plans"])
    with pytest.raises(CheckpointError, match=r"its plans name os\.mkdir"):
        add_source(path, "s", task="segmentation", domain="t1")
    content = evil_run(evidence)
    configuration = content["init_args"]["plans"]["configurations"]["3d_fullres"]
    configuration["architecture"]["arch_kwargs"]["nonlin"] = "torch.nn.LeakyReLU"
    for name in ("os.ResidualEncoderUNet", "torch.nn.functional.os.PlainConvUNet"):
        configuration["architecture"]["network_class_name"] = name
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="its plans name"):
            inspect_checkpoint(path)
    assert not evidence.exists()


def test_a_source_s_folder_that_runs_a_program_is_not_planned_with(
    tmp_path: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, evidence = tmp_path / "run.pth", tmp_path / "evidence"
    architecture = plans_architecture()
    torch.save(nnunet_run(build(architecture), architecture), path)
    card = add_source(path, "s", task="segmentation", domain="t1") / "source.json"
    content = read_json(card)
    content["architecture"]["arch_kwargs"] |= {"nonlin": "os.mkdir", "nonlin_kwargs": {"path": str(evidence)}}
    write_json(card, content)
    dataset = write_blob_dataset(nnunet_folders / "raw", 521, cases=2, shape=(16, 16, 16))
    extract_fingerprint_in_process(dataset, foreground_voxels=1000)
    assert main(["plan", "-d", "521", "--source", "s"]) == 2
    assert "source s names os.mkdir" in capsys.readouterr().err
    assert not evidence.exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("features_per_stage", [4, 6, 1 << 40]),
        ("features_per_stage", 4),
        ("n_stages", 2),
        ("n_blocks_per_stage", [1, 2, 3]),
        ("kernel_sizes", [[3, 3, 3], [3, 3, 3], [1, 3, 3]]),
        ("kernel_sizes", 5),
        ("strides", [[1, 1, 1], [2, 2, 2], [1, 2, 2]]),
        ("strides", [1, 2, 4]),
        ("conv_bias", False),
        ("n_conv_per_stage_decoder", [1, 2]),
    ],
)
def test_plans_of_another_network_are_refused(setting: str, value: object, tmp_path: Path) -> None:
    content = nnunet_run(build(plans_architecture()), architecture := plans_architecture())
    architecture["arch_kwargs"][setting] = value
    torch.save(content, tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match="they belong to another network"):
        inspect_checkpoint(tmp_path / "run.pth")


@pytest.mark.parametrize(
    ("setting", "value"), [("kernel_sizes", 3), ("kernel_sizes", [3, 3, 3]), ("strides", [1, 2, 2])]
)
def test_plans_that_give_one_number_for_all_axes_are_read(setting: str, value: object, tmp_path: Path) -> None:
    content = nnunet_run(build(plans_architecture()), architecture := plans_architecture())
    architecture["arch_kwargs"][setting] = value
    torch.save(content, tmp_path / "run.pth")
    assert inspect_checkpoint(tmp_path / "run.pth")["stages"] == 3


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text("a0._", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "a", "strides"]), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES = (
    ("init_args",),
    ("init_args", "plans"),
    ("init_args", "dataset_json"),
    ("init_args", "configuration"),
    ("init_args", "dataset_json", "channel_names"),
    ("init_args", "plans", "dataset_name"),
    ("init_args", "plans", "configurations"),
    ("init_args", "plans", "configurations", "3d_fullres"),
    ("init_args", "plans", "configurations", "3d_fullres", "architecture"),
    ("init_args", "plans", "configurations", "3d_fullres", "architecture", "arch_kwargs"),
    ("init_args", "plans", "configurations", "3d_fullres", "architecture", "_kw_requires_import"),
    ("init_args", "plans", "configurations", "3d_fullres", "inherits_from"),
    ("init_args", "plans", "configurations", "3d_fullres", "spacing"),
    ("init_args", "plans", "configurations", "3d_fullres", "patch_size"),
    ("init_args", "plans", "configurations", "3d_fullres", "normalization_schemes"),
    ("nnssl_adaptation_plan",),
    ("nnssl_adaptation_plan", "architecture_plans"),
    ("nnssl_adaptation_plan", "pretrain_plan"),
    ("nnssl_adaptation_plan", "pretrain_plan", "configurations"),
    ("citations",),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), odd=ODD)
def test_odd_settings_are_passed_over_or_one_line(
    in_this_process: None, tmp_path: Path, place: tuple[str, ...], odd: Any
) -> None:
    """What stands beside the weights may be anything; it never ends in a traceback."""
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    if place[0] != "init_args":
        plan = {"architecture_plans": {"arch_class_name": "ResEncL"}, "pretrain_plan": {"configurations": {}}}
        content["nnssl_adaptation_plan"] = plan
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = odd
    torch.save(content, tmp_path / "x.pth")
    with contextlib.suppress(CheckpointError):
        assert inspect_checkpoint(tmp_path / "x.pth")["stages"] == 3
