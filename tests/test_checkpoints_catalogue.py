"""Fetching public checkpoints by name: what is downloaded is checked, and keeps its provenance."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

from nnunet_transfer.checkpoints.catalogue import CATALOGUE
from nnunet_transfer.checkpoints.downloads import is_address, stated_sha256
from nnunet_transfer.cli import main
from nnunet_transfer.naming import PRETRAINERS
from nnunet_transfer.sources import list_sources, load_source
from tests.file_server import FileServer, serving


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "sources"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serves a ResNet-18 in the place of torchvision's, under two names; that of the second is wrong."""
    buffer = io.BytesIO()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), buffer)
    with serving() as running:
        for name, digits in (
            ("imagenet_resnet18", hashlib.sha256(buffer.getvalue()).hexdigest()[:8]),
            ("wrong", "0" * 8),
        ):
            path = f"/resnet18-{digits}.pth"
            running.files[path] = buffer.getvalue()
            entry = replace(CATALOGUE["imagenet_resnet18"], address=running.address + path)
            monkeypatch.setitem(CATALOGUE, name, entry)
        yield running


def test_entries_are_complete() -> None:
    for name, entry in CATALOGUE.items():
        assert is_address(entry.address), name
        assert entry.address.startswith(("https://", "hf://")), name
        assert entry.task in PRETRAINERS.values(), name
        assert entry.licence, name
        assert entry.citation, name
    assert stated_sha256(CATALOGUE["imagenet_resnet18d"].address) == "48a79e06"
    # each of the arms from natural images finds a source
    assert {e.task for e in CATALOGUE.values() if e.domain == "natural"} == set(PRETRAINERS.values())


def test_the_catalogue_s_addresses_are_the_publishers() -> None:
    """Where a library knows the address, it is the same."""
    import timm

    weights = torchvision.models.segmentation
    assert CATALOGUE["imagenet_resnet50"].address == torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
    assert CATALOGUE["imagenet_resnet34"].address == torchvision.models.ResNet34_Weights.DEFAULT.url
    assert CATALOGUE["imagenet_resnet18"].address == torchvision.models.ResNet18_Weights.DEFAULT.url
    assert CATALOGUE["coco_fcn_resnet50"].address == weights.FCN_ResNet50_Weights.DEFAULT.url
    assert CATALOGUE["coco_deeplabv3_resnet50"].address == weights.DeepLabV3_ResNet50_Weights.DEFAULT.url
    for depth in (18, 34, 50):
        assert CATALOGUE[f"imagenet_resnet{depth}d"].address == timm.get_pretrained_cfg(f"resnet{depth}d").url


def test_a_fetched_checkpoint_carries_its_provenance(server: FileServer) -> None:
    assert main(["sources", "fetch", "imagenet_resnet18", "--save-as", "natural_classification"]) == 0
    entry = CATALOGUE["imagenet_resnet18"]
    card = load_source("natural_classification").card
    assert (card.task, card.domain, card.trained_on) == ("classification", "natural", ("ImageNet-1k",))
    assert (card.licence, card.extra["address"]) == (entry.licence, entry.address)
    assert main(["sources", "fetch", "imagenet_resnet18", "--save-as", "natural_classification"]) == 2
    assert len(server.asked) == 1


def test_a_checksum_of_the_catalogue_s_own_is_checked(
    server: FileServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = replace(CATALOGUE["imagenet_resnet18"], sha256="0" * 64)
    monkeypatch.setitem(CATALOGUE, "replaced", entry)
    assert main(["sources", "fetch", "replaced"]) == 2
    assert f"the catalogue states {'0' * 64}; it was not used" in capsys.readouterr().err
    assert list_sources() == []


def test_the_catalogue_tells_all_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "fetch", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.keys() == CATALOGUE.keys()
    assert shown["imagenet_resnet34d"]["sha256"] == "f8dcfcaf"
    assert len(shown["openmind_mae"]["sha256"]) == 64
    for entry in shown.values():
        assert entry.keys() == {"address", "task", "domain", "licence", "citation", "trained_on", "sha256"}


def test_another_file_than_stated_is_not_added(server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "fetch", "wrong"]) == 2
    assert "its name says 00000000" in capsys.readouterr().err
    assert list_sources() == []


def test_without_a_name_the_catalogue_is_listed_and_nothing_asked(
    server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sources", "fetch"]) == 0
    assert "imagenet_resnet18d" in capsys.readouterr().out
    assert main(["sources", "fetch", "imagenet_resnet18x"]) == 2
    assert "did you mean imagenet_resnet18" in capsys.readouterr().err
    assert server.asked == []
