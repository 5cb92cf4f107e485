"""Image channels by nnU-Net's rule, wherever data sets are read: the order counts, keys are free, `modality` is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
    channel_name_to_normalization_mapping,
)

from nnunet_transfer.adaptation import Target, transfer_weights
from nnunet_transfer.channels import NORMALISATIONS, channel_names
from nnunet_transfer.checkpoints import add_source
from nnunet_transfer.cli import main
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.pretraining.source_name import source_name
from nnunet_transfer.sources import load_source
from tests.checkpoint_files import build, nnunet_run, plans_architecture
from tests.nnunet_data import write_blob_dataset
from tests.test_plans import planned_ready
from tests.unets import residual, saved

#: two channels, T1 first, as data sets in the wild write it
FORMS: tuple[dict[str, Any], ...] = (
    {"channel_names": {"0": "T1", "1": "FLAIR"}},
    {"channel_names": {"1": "T1", "0": "FLAIR"}},
    {"channel_names": {"T1": "T1", "FLAIR": "FLAIR"}},
    {"modality": {"0": "T1", "1": "FLAIR"}},
    {"channel_names": {"b": "T1", "a": "FLAIR"}, "modality": {"0": "x", "1": "y"}},
)


@pytest.mark.parametrize("form", FORMS)
def test_everything_reads_the_same_channels(form: dict[str, Any], nnunet_folders: Path) -> None:
    architecture = plans_architecture(dims=2)
    run = nnunet_run(build(architecture, channels=2), architecture)
    run["init_args"]["dataset_json"] = {**form, "labels": {"background": 0, "x": 1}}
    torch.save(run, nnunet_folders / "x.pth")
    add_source(nnunet_folders / "x.pth", "added", task="segmentation", domain="brain")
    assert load_source("added").card.channel_names == ("T1", "FLAIR")
    assert source_name("segmentation", form)[0] == "t1_flair_segmentation"

    other = {"channel_names": {"0": "t1", "1": "flair"}}
    for number, channels in ((11, form), (12, other)):
        name = write_blob_dataset(
            nnunet_folders / "raw", number, name=f"N{number}", cases=2, shape=(6, 6, 4), channels=("a", "b")
        )
        path = nnunet_folders / "raw" / name / "dataset.json"
        content = {key: value for key, value in read_json(path).items() if key != "channel_names"}
        write_json(path, content | channels)
        write_json(
            path.parent / "splits_final.json",
            [{"train": ["case00"], "val": ["case01"]}, {"train": ["case01"], "val": ["case00"]}],
        )
    assert main(["pool", "-d", "11", "12", "--id", "20", "--name", "Pooled"]) == 0
    pooled = read_json(nnunet_folders / "raw/Dataset020_Pooled/dataset.json")
    assert pooled["channel_names"] == {"0": "T1", "1": "FLAIR"}


def test_plans_are_made_for_old_data_sets(nnunet_folders: Path) -> None:
    name = planned_ready(nnunet_folders, 11, (20, 36, 40), channels=("T1", "FLAIR"))
    path = nnunet_folders / "raw" / name / "dataset.json"
    content = read_json(path)
    content["modality"] = content.pop("channel_names")
    write_json(path, content)
    plans = read_json(write_transfer_plans(name, profile="demo", configurations=["2d"]))
    assert len(plans["configurations"]["2d"]["normalization_schemes"]) == 2


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"channel_names": {}},
        {"channel_names": ["T1"]},
        {"channel_names": {"0": "T1"}, "modality": {"0": "a", "1": "b"}},
    ],
)
def test_what_names_no_channels_is_an_error(content: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"dataset\.json"):
        channel_names(content)


def test_normalisations_are_those_of_nnunet() -> None:
    assert {"ct", *NORMALISATIONS} == set(channel_name_to_normalization_mapping)


def test_ways_to_normalise_are_no_names(nnunet_folders: Path) -> None:
    with pytest.raises(SettingsError, match="source_domain"):
        source_name("segmentation", {"channel_names": {"0": "zscore"}})
    assert source_name("segmentation", {"channel_names": {"0": "T1", "1": "noNorm"}})[1] == "t1_nonorm"
    # of no common name: the rule for channels decides, and not the word
    source = saved(residual(input_channels=2), channel_names=("noNorm", "T1"))
    target = residual(input_channels=3)
    transfer_weights(target, source, target=Target(channel_names=("FLAIR", "T2", "nonorm")))
    weight = target.encoder.stem.convs[0].conv.weight
    assert torch.equal(weight[:, 0], weight[:, 2])
