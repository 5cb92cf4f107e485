"""Fetching public checkpoints: what is downloaded is checked, and being offline is said in one line."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from nnunet_transfer.checkpoints import catalogue
from nnunet_transfer.cli import main
from nnunet_transfer.naming import PRETRAINERS
from nnunet_transfer.sources import list_sources, load_source


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    return tmp_path / "sources"


class Answer(io.BytesIO):
    """What `urlopen` returns."""

    headers = Message()


def serve(monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception) -> list[str]:
    asked: list[str] = []

    def urlopen(address: str, timeout: float) -> Any:
        asked.append(address)
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def weights() -> bytes:
    buffer = io.BytesIO()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), buffer)
    return buffer.getvalue()


def test_entries_are_complete() -> None:
    for name, entry in catalogue.CATALOGUE.items():
        assert entry.address.startswith(("https://", catalogue.HUGGING_FACE)), name
        assert entry.task in PRETRAINERS.values(), name
        assert entry.licence, name
        assert entry.citation, name


def test_a_fetched_checkpoint_carries_its_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    content = weights()
    entry = catalogue.CATALOGUE["imagenet_resnet18"]
    stated = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(
        catalogue.CATALOGUE, "imagenet_resnet18", replace(entry, address=f"https://x/resnet18-{stated}.pth")
    )
    asked = serve(monkeypatch, content)
    assert main(["sources", "fetch", "imagenet_resnet18", "--save-as", "natural_classification"]) == 0
    assert asked == [f"https://x/resnet18-{stated}.pth"]
    card = load_source("natural_classification").card
    assert (card.task, card.domain, card.trained_on) == ("classification", "natural", ("ImageNet-1k",))
    assert card.licence == entry.licence


def test_another_file_than_stated_is_not_added(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, weights())
    assert main(["sources", "fetch", "imagenet_resnet18"]) == 2
    assert "its publisher states f37072fd" in capsys.readouterr().err
    assert list_sources() == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (urllib.error.URLError("no route to host"), "can't be reached (no route to host)"),
        (TimeoutError("timed out"), "can't be reached (timed out)"),
        (urllib.error.HTTPError("https://x", 404, "Not Found", Message(), None), "answers 404"),
    ],
)
def test_being_offline_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    asked = serve(monkeypatch, error)
    assert main(["sources", "fetch", "openmind_mae"]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
    assert asked == ["https://huggingface.co/AnonRes/ResEncL-OpenMind-MAE/resolve/main/checkpoint_final.pth"]


def test_without_a_name_the_catalogue_is_listed_and_nothing_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = serve(monkeypatch, AssertionError("no download was asked for"))
    assert main(["sources", "fetch"]) == 0
    assert "imagenet_resnet18d" in capsys.readouterr().out
    assert main(["sources", "fetch", "imagenet_resnet18x"]) == 2
    assert "did you mean imagenet_resnet18" in capsys.readouterr().err
    assert asked == []
