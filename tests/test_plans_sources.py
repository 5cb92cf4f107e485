"""Transfer plans that follow a source: its architecture, and as much else as is asked for."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.adaptation import Target, transfer_weights
from nnunet_transfer.cli import main
from nnunet_transfer.errors import PlansError
from nnunet_transfer.files import read_json
from nnunet_transfer.plans import PROFILES, write_transfer_plans
from nnunet_transfer.plans.architectures import divisor
from nnunet_transfer.sources import load_source
from tests.planned_data import network_of, planned_ready, save_plans_as_source


@pytest.fixture
def dataset(nnunet_folders: Path) -> str:
    return planned_ready(nnunet_folders, 11, (20, 36, 40))


def test_two_data_sets_get_the_same_architecture_and_exchange_weights(dataset: str, nnunet_folders: Path) -> None:
    other = planned_ready(nnunet_folders, 13, (24, 70, 70), channels=("R", "G"), labels=3)
    first, second = (read_json(write_transfer_plans(d, profile="demo"))["configurations"] for d in (dataset, other))
    for name in ("2d", "3d_fullres"):
        assert first[name]["architecture"] == second[name]["architecture"]
    assert first["2d"]["patch_size"] != second["2d"]["patch_size"]
    save_plans_as_source("from_first", first["2d"])
    report = transfer_weights(network_of(second["3d_fullres"], channels=2, labels=4), load_source("from_first"))
    assert report.coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}


def test_plans_of_a_source_have_its_architecture_and_name_it(dataset: str) -> None:
    planned = read_json(write_transfer_plans(dataset, profile="resnet50"))["configurations"]["2d"]
    save_plans_as_source("big", planned)
    path = write_transfer_plans(dataset, source="big", configurations=["2d"])
    plans = read_json(path)
    assert path.name == "nnUNetPlans_from_big.json"
    assert list(plans["configurations"]) == ["2d"]
    assert plans["configurations"]["2d"]["architecture"] == planned["architecture"]
    assert plans["transfer"]["source"] == "big"
    assert plans["transfer"]["sha256"] == load_source("big").card.sha256
    assert plans["transfer"]["origin"]["architecture"] == "source big"
    assert plans["transfer"]["origin"]["spacing"] == "nnU-Net's rule"


def test_plans_name_a_source_as_trainings_find_it(dataset: str, nnunet_folders: Path) -> None:
    planned = read_json(write_transfer_plans(dataset, profile="demo"))["configurations"]["2d"]
    save_plans_as_source("old", planned)
    registry = nnunet_folders / "results" / "sources"
    (registry / "old").rename(registry / "new")
    save_plans_as_source("old", planned)
    for given in ("new", str(registry / "new")):
        path = write_transfer_plans(dataset, source=given, configurations=["2d"])
        block = read_json(path)["transfer"]
        assert path.name == "nnUNetPlans_from_new.json"
        assert (block["source"], block["origin"]["architecture"]) == ("new", "source new")
        assert block["sha256"] == load_source(block["source"]).card.sha256
    # a registered source of the same name isn't this one
    elsewhere = nnunet_folders / "old"
    shutil.copytree(registry / "old", elsewhere)
    with pytest.raises(PlansError, match=re.escape(f"add it first with `nnunet_transfer sources add {elsewhere}`")):
        write_transfer_plans(dataset, source=str(elsewhere), configurations=["2d"])
    assert not list((nnunet_folders / "preprocessed" / dataset).glob("*_old.json"))


def test_a_source_in_a_profiles_architecture(dataset: str) -> None:
    planned = read_json(write_transfer_plans(dataset, profile="resnet50"))["configurations"]["2d"]
    save_plans_as_source("big", planned)
    profile = read_json(write_transfer_plans(dataset, profile="demo"))
    path = write_transfer_plans(dataset, profile="demo", source="big")
    plans = read_json(path)
    assert path.name == "nnUNetPlans_demo_from_big.json"
    assert plans["configurations"] == profile["configurations"]
    assert plans["transfer"]["source"] == "big"
    assert plans["transfer"]["origin"]["architecture"] == "profile demo"


def test_a_source_may_dictate_more_and_then_has_its_own_data(dataset: str) -> None:
    planned = read_json(write_transfer_plans(dataset, profile="demo"))["configurations"]["3d_fullres"]
    save_plans_as_source(
        "ct", planned, spacing=(2.0, 1.0, 1.5), normalization_schemes=("CTNormalization",), patch_size=(16, 32, 32)
    )
    path = write_transfer_plans(dataset, source="ct", follow_source=["spacing", "normalization", "patch_size"])
    plans = read_json(path)
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["spacing"] == [2.0, 1.0, 1.5]
    assert configuration["normalization_schemes"] == ["CTNormalization"]
    assert configuration["patch_size"] == [16, 32, 32]
    assert configuration["data_identifier"] == "nnUNetPlans_from_ct_3d_fullres"
    origin = plans["transfer"]["origin"]
    assert origin["spacing"] == origin["normalization"] == origin["patch_size"] == "source ct"
    with pytest.raises(
        PlansError, match=r"the patch size of source ct, 16 32 32, has 3 axes, but no configuration of 2d has"
    ):
        write_transfer_plans(dataset, source="ct", follow_source=["patch_size"], configurations=["2d"], name="flat")


#: name of a channel -> the normalisation that nnU-Net chooses by it
CHOSEN_BY_NAME = {
    "T1": "ZScoreNormalization",
    "CT": "CTNormalization",
    "noNorm": "NoNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}


@pytest.mark.parametrize("cropped_to", [0.74, 0.75])
@pytest.mark.parametrize(("channel", "scheme"), CHOSEN_BY_NAME.items())
def test_a_source_s_normalisation_has_nnunets_mask(
    nnunet_folders: Path, cropped_to: float, channel: str, scheme: str
) -> None:
    """The mask is that of nnU-Net's plans for channels that it normalises like the source's."""
    shape = (20, 36, 40)
    like = planned_ready(nnunet_folders, 17, shape, cropped_to, channels=(channel,) * 2)
    expected = read_json(write_transfer_plans(like, profile="demo"))["configurations"]
    save_plans_as_source("mine", expected["3d_fullres"], normalization_schemes=(scheme,))
    for number, name in ((18, "T1"), (19, "CT")):
        other = planned_ready(nnunet_folders, number, shape, cropped_to, channels=(name, "T1"))
        planned = read_json(write_transfer_plans(other, source="mine", follow_source=["normalization"]))
        for configuration in ("2d", "3d_fullres"):
            for setting in ("normalization_schemes", "use_mask_for_norm"):
                assert planned["configurations"][configuration][setting] == expected[configuration][setting]
    assert expected["2d"]["normalization_schemes"] == [scheme] * 2
    assert expected["2d"]["use_mask_for_norm"] == [scheme == "ZScoreNormalization" and cropped_to < 0.75] * 2


def _deep(dimensions: int, strides: list[int | list[int]], block: str) -> dict[str, Any]:
    """Return a configuration with a residual network of many narrow stages."""
    stages = len(strides)
    architecture = copy.deepcopy(PROFILES["demo"].architecture(dimensions))
    kwargs = architecture["arch_kwargs"]
    kwargs |= {
        "n_stages": stages,
        "features_per_stage": [4, *[8] * (stages - 1)],
        "kernel_sizes": [[3] * dimensions] * stages,
        "strides": [[stride] * dimensions if isinstance(stride, int) else stride for stride in strides],
        "n_blocks_per_stage": [1] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "block": f"dynamic_network_architectures.building_blocks.residual.{block}",
        **({"bottleneck_channels": [4] * stages} if block == "BottleneckD" else {}),
    }
    architecture["_kw_requires_import"] = [*architecture["_kw_requires_import"], "block"]
    return {"architecture": architecture}


@pytest.mark.parametrize("memory", [None, 1e-4])
@pytest.mark.parametrize("block", ["BasicBlockD", "BottleneckD"])
@pytest.mark.parametrize(
    ("dimensions", "strides", "expected"),
    [
        (2, [1, *[2] * 7], {"2d": [128, 256], "3d_fullres": [128, 128, 256]}),
        (2, [1, *[2] * 6], {"2d": [64, 128], "3d_fullres": [64, 64, 128]}),
        # the first axis is left when the others are gone
        (3, [1, 2, *[[1, 2, 2]] * 6], {"2d": [128, 256], "3d_fullres": [20, 128, 128]}),
    ],
)
def test_networks_deeper_than_the_images_are_large_get_padded_patches(
    dataset: str,
    dimensions: int,
    strides: list[int | list[int]],
    expected: dict[str, list[int]],
    block: str,
    memory: float | None,
) -> None:
    save_plans_as_source("deep", _deep(dimensions, strides, block))
    plans = read_json(write_transfer_plans(dataset, source="deep", gpu_memory=memory))
    for name, patch in expected.items():
        configuration = plans["configurations"][name]
        if memory is None:
            assert configuration["patch_size"] == patch
        steps = divisor(configuration["architecture"])
        assert all(size % step == 0 for size, step in zip(configuration["patch_size"], steps, strict=True))
        assert configuration["batch_size"] >= 2


def test_what_differs_from_the_source_is_said_as_in_the_transfer_report(
    dataset: str, nnunet_folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planned = read_json(write_transfer_plans(dataset, profile="demo"))["configurations"]["3d_fullres"]
    ct = {"channel_names": ("CT",), "normalization_schemes": ("CTNormalization",), "spacing": (3.0, 1.0, 1.0)}
    other = copy.deepcopy(planned)
    other["architecture"]["arch_kwargs"]["nonlin"] = "torch.nn.ReLU"
    save_plans_as_source("ct", other, patch_size=tuple(planned["patch_size"]), **ct)
    caplog.clear()
    assert main(["plan", "-d", dataset, "--source", "ct", "--profile", "demo"]) == 0
    said = [re.fullmatch("note(?: on (.*?))?: (.*)", record.getMessage()) for record in caplog.records]
    plans = read_json(nnunet_folders / "preprocessed" / dataset / "nnUNetPlans_demo_from_ct.json")
    dataset_json = read_json(nnunet_folders / "raw" / dataset / "dataset.json")
    for name, last in (("3d_fullres", "spacing"), ("2d", "patch size")):
        configuration = plans["configurations"][name]
        target = Target.of_plans(dataset, configuration, dataset_json)
        report = transfer_weights(network_of(configuration), load_source("ct"), target=target)
        assert [match[2] for match in said if match and match[1] in (None, name)] == [*report.notes]
        assert [text.split(":")[0] for text in report.notes] == ["nonlinearity", "channels", "normalisation", last]
