"""Sources as others see them: the table, the model card, and folders that are published and read back."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nnunet_transfer.api import add_source, publish_source
from nnunet_transfer.cli import main
from nnunet_transfer.errors import SourceError
from nnunet_transfer.finetuning.named_heads import matching_outputs
from nnunet_transfer.plans import PROFILES
from nnunet_transfer.sources import SourceCard, load_source, save_source
from nnunet_transfer.sources.learning import KEY, Learning, segmentation_learning
from nnunet_transfer.sources.model_card import licence_of, read_head
from nnunet_transfer.sources.terms import licence_identifier, licence_note
from tests.file_server import FileServer, serving, take_the_hubs_place

ARCHITECTURE = PROFILES["demo"].architecture(2)
CARD = SourceCard(
    name="anatomy",
    task="segmentation",
    domain="t1",
    architecture={
        **{key: ARCHITECTURE[key] for key in ("network_class_name", "arch_kwargs")},
        "arch_kwargs_req_import": ARCHITECTURE["_kw_requires_import"],
    },
    input_channels=1,
    channel_names=("T1",),
    normalization_schemes=("ZScoreNormalization",),
    spacing=(1.0, 1.0),
    patch_size=(32, 32),
    trained_on=("ATLAS R2.0", "OASIS-1"),
    trained_on_cases=("sub-001", "sub-002"),
    licence="CC BY 4.0",
    citation="Somebody | et al., 2026",
    extra={
        "outputs": [["background", "grey matter", "lesion"]],
        KEY: Learning("pseudo Dice", 0.81, 0.1, 0.15).to_dict(),
        "lesion_donors": ["R001s002"],
        "notes": ["a note"],
    },
)
HEAD = "decoder.seg_layers.0.weight"


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save a source beside two data sets of nnU-Net's, of which one holds the same people."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    for name in ("nnUNet_raw/Dataset007_ATLAS3", "nnUNet_preprocessed/Dataset008_Mine", "nnUNet_raw/no_data_set"):
        (tmp_path / name).mkdir(parents=True)
    return save_source(CARD, {"encoder.a.weight": torch.randn(3, 2), HEAD: torch.randn(3, 4, 1, 1)})


def test_the_table_says_what_a_reader_asks_first(capsys: pytest.CaptureFixture[str]) -> None:
    save_source(replace(CARD, name="other", trained_on=("ImageNet-1k",), licence="", extra={}), {"a": torch.ones(1)})
    assert main(["sources", "list"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "name"
    for text in (
        "anatomy",
        "segmentation",
        "t1",
        "CC BY 4.0",
        "yes: 0.81 (0.10 without), pseudo Dice",
        "ATLAS R2.0, OASIS-1",
    ):
        assert text in first
    assert first.endswith("Dataset007_ATLAS3")
    assert second.split()[-1] == "-"
    assert "unknown" in second
    assert main(["sources", "list", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in known] == ["anatomy", "other"]
    assert list(known[0]["leakage"]) == ["Dataset007_ATLAS3"]
    assert "ATLAS" in known[0]["leakage"]["Dataset007_ATLAS3"][0]
    assert known[1]["leakage"] == {}
    assert known[0]["trained_on_cases"] == ["sub-001", "sub-002"]


def test_the_table_says_of_every_score_whether_it_was_learnt(capsys: pytest.CaptureFixture[str]) -> None:
    for name, dice in (("good", 0.6), ("bad", 0.55)):
        learning = segmentation_learning(dice, 0.53)
        assert learning is not None
        save_source(replace(CARD, name=name, extra={KEY: learning.to_dict()}), {"a": torch.ones(1)})
    assert main(["sources", "list"]) == 0
    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "yes: 0.60 (0.53 without), pseudo Dice on" in shown["good"]
    assert "no: 0.55 (0.53 without), pseudo Dice on" in shown["bad"]


def test_a_cell_can_break_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    save_source(replace(CARD, name="odd", licence="a\nb\x1b[2J" + "c" * 500), {"a": torch.ones(1)})
    assert main(["sources", "list"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert "\x1b" not in out


def test_show_prints_the_model_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "show", "anatomy"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# anatomy\n")
    for text in (
        "background, grey matter, lesion",
        "1 channel T1",
        "pseudo Dice 0.810",
        "2 cases",
        "R001s002",
        "a note",
    ):
        assert text in out
    # the source is of 2D images
    assert "nnUNetv2_train DATASET_ID 2d 0 -p nnUNetPlans_from_anatomy -tr nnUNetTrainerTransfer" in out
    assert "## Citation\n\nSomebody \\| et al., 2026" in out
    assert load_source("anatomy").card.sha256 in out
    assert main(["sources", "show", "anatomy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["citation"] == CARD.citation


@pytest.mark.parametrize(
    "odd", [None, 5, True, "ab", {}, {"a": 1}, [], [[]], [[1]], [["background"], [1]], ["ab"], [{"a": 1}]]
)
def test_odd_names_of_outputs_are_none(odd: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A card may come from anyone; whoever reads the names of its outputs needn't check them."""
    folder = save_source(replace(CARD, extra={"outputs": odd}), {"encoder.a.weight": torch.ones(1)}, overwrite=True)
    assert load_source(folder).card.outputs == ()
    assert matching_outputs(load_source(folder), ["background", "lesion"]) is None
    assert main(["sources", "show", "anatomy"]) == 0
    assert "| outputs |" not in capsys.readouterr().out
    assert main(["sources", "inspect", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == []


def test_a_published_folder_is_read_back_as_it_was(source: Path, tmp_path: Path) -> None:
    folder = publish_source("anatomy", tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == [
        *("LICENSE", "README.md", "SHA256SUMS", "source.json", "weights.safetensors")
    ]
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    head = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert head["license"] == licence_of(read_head(folder / "README.md")) == "cc-by-4.0"
    assert head["pipeline_tag"] == "image-segmentation"
    assert {"segmentation", "t1", "nnU-Net"} <= set(head["tags"])
    before = load_source("anatomy")
    own = before.tensors()
    again = add_source(folder, "again")
    assert replace(again.card, name="anatomy") == before.card
    assert again.card.sha256 == before.card.sha256
    assert again.tensors().keys() == own.keys()
    assert all(torch.equal(tensor, own[key]) for key, tensor in again.tensors().items())
    # what is given counts more than what the folder says
    renamed = add_source(folder / "weights.safetensors", "third", domain="brain_mri")
    assert (renamed.card.domain, renamed.card.task) == ("brain_mri", "segmentation")


def test_it_is_read_back_from_hugging_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = publish_source("anatomy", tmp_path / "out")
    with serving() as server:
        take_the_hubs_place(server, tmp_path / "hub", monkeypatch)
        for file in folder.iterdir():
            server.files[f"/lab/anatomy/resolve/main/{file.name}"] = file.read_bytes()
        assert main(["sources", "inspect", "hf://lab/anatomy", "--json"]) == 0
        seen = json.loads(capsys.readouterr().out)
        assert (seen["name"], seen["task"], seen["licence"]) == ("anatomy", "segmentation", "CC BY 4.0")
        assert any("grey matter, lesion" in use for use in seen["uses"])
        assert main(["sources", "add", "hf://lab/anatomy"]) == 2
        assert "source anatomy already exists" in capsys.readouterr().err
        assert main(["sources", "add", "hf://lab/anatomy", "--name", "theirs"]) == 0
        own, theirs = load_source("anatomy").card, load_source("theirs").card
        address = "hf://lab/anatomy"
        assert theirs == replace(own, name="theirs", extra={**own.extra, "address": address})
        # another repository has weights alone: they are found, but somebody has to say what they are
        server.files["/lab/plain/resolve/main/model.safetensors"] = (folder / "weights.safetensors").read_bytes()
        assert main(["sources", "add", "hf://lab/plain"]) == 2
        assert "give a name, a task and a domain" in capsys.readouterr().err
        assert main(["sources", "add", "hf://lab/nothing", "--name", "x"]) == 2
        assert "has neither weights.safetensors nor model.safetensors" in capsys.readouterr().err
        # a card that was changed, or is for other weights
        server.files["/lab/wrong/resolve/main/source.json"] = (folder / "source.json").read_bytes()
        server.files["/lab/wrong/resolve/main/weights.safetensors"] = (
            b"x" + (folder / "weights.safetensors").read_bytes()
        )
        assert main(["sources", "add", "hf://lab/wrong", "--name", "wrong"]) == 2
        assert "was changed" in capsys.readouterr().err


def test_a_new_version_and_a_card_that_was_missed_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(server: FileServer, commit: str, **options: Any) -> None:
        folder = publish_source("anatomy", tmp_path / commit, **options)
        contents = {file.name: file.read_bytes() for file in folder.iterdir()}
        for name in (*contents, "config.json", "adaptation_plan.json"):
            server.headers[f"/lab/anatomy/resolve/main/{name}"] = {"X-Repo-Commit": commit}
        server.files |= {f"/lab/anatomy/resolve/main/{name}": content for name, content in contents.items()}

    add = ["sources", "add", "hf://lab/anatomy", "--name", "theirs", "--overwrite"]
    with serving() as server:
        take_the_hubs_place(server, tmp_path / "hub", monkeypatch)
        put(server, "a" * 40)
        card = "/lab/anatomy/resolve/main/source.json"
        server.status[card] = 403
        assert main(add) == 2, "without its card, the weights are nobody's"
        del server.status[card]
        assert main(add) == 0, "although the weights are in the cache"
        put(server, "b" * 40, licence="MIT")
        assert main(add) == 0, "although an older version is in the cache"
        assert load_source("theirs").card.licence == "MIT"
        asked = len(server.asked)
        assert main(add) == 0
        assert len(server.asked) == asked, "what is in the cache isn't requested again"


def test_what_is_needed_is_said_before_a_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "add", "https://nowhere.invalid/x.pth", "--name", "x"]) == 2
    assert "give --task, --domain" in capsys.readouterr().err


def test_a_licence_is_needed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_source(replace(CARD, name="free", licence=""), {"a": torch.ones(1)})
    assert main(["sources", "publish", "free", str(tmp_path / "out")]) == 2
    assert "--licence" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "text").write_text("The lab's terms.\n")
    options = ["--licence", 'Lab\'s "terms": no #1', "--licence-file", str(tmp_path / "text"), "--leave-out-cases"]
    assert main(["sources", "publish", "free", str(tmp_path / "out"), *options]) == 0
    assert (tmp_path / "out" / "LICENSE").read_text() == "The lab's terms.\n"
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert (head["license"], head["license_name"]) == ("other", 'Lab\'s "terms": no #1')
    card = load_source(tmp_path / "out").card
    assert card.licence == 'Lab\'s "terms": no #1'
    assert (card.trained_on_cases, "lesion_donors" in card.extra) == ((), False)
    assert card.sha256 == load_source("free").card.sha256


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "home"
    target.mkdir()
    publish_source("anatomy", target)  # an empty folder may be there
    with pytest.raises(SourceError, match="not empty; give another folder, or --overwrite"):
        publish_source("anatomy", target)
    publish_source("anatomy", target, licence="MIT", overwrite=True)
    assert load_source(target).card.licence == "MIT"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(SourceError, match="not empty"):
        publish_source("anatomy", tmp_path / "mine", overwrite=True)
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]
    # a repository with an earlier version
    (target / ".git").mkdir()
    with pytest.raises(SourceError, match=r"also holds \.git, which would be lost"):
        publish_source("anatomy", target, overwrite=True)
    assert (target / ".git").is_dir()


def test_a_registered_source_is_not_replaced(source: Path) -> None:
    card = (source / "source.json").read_bytes()
    with pytest.raises(SourceError, match="wasn't published there"):
        publish_source("anatomy", source, leave_out_cases=True, overwrite=True)
    assert (source / "source.json").read_bytes() == card


def test_changed_weights_are_not_published(source: Path, tmp_path: Path) -> None:
    with open(source / "weights.safetensors", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(SourceError, match="was changed"):
        publish_source("anatomy", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_card_that_names_other_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish_source("anatomy", tmp_path / "out")
    content = json.loads((folder / "source.json").read_text())
    content["architecture"]["network_class_name"] = "antigravity.Net"
    (folder / "source.json").write_text(json.dumps(content))
    assert main(["sources", "add", str(folder), "--name", "x"]) == 2
    assert "antigravity.Net, which isn't a network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("licence", "identifier", "asks"),
    [
        ("MIT", "mit", "may be shared and changed"),
        ("CC BY 4.0", "cc-by-4.0", "may be shared and changed"),
        ("CC0", "cc0-1.0", "may be shared and changed"),
        ("Apache-2.0", "apache-2.0", "may be shared and changed"),
        ("cc-by-nc-nd-4.0", "cc-by-nc-nd-4.0", "non-commercial use only; changed weights must not be shared"),
        ("CC BY-SA 4.0", "cc-by-sa-4.0", "under the same licence"),
        ("Apache-2.0 (timm); ImageNet's terms of access (non-commercial research)", "other", "non-commercial use only"),
        ("the laboratory's", "other", "read its terms"),
        ("", "other", "licence unknown"),
    ],
)
def test_licences_are_told_apart(licence: str, identifier: str, asks: str) -> None:
    assert licence_identifier(licence) == identifier
    assert asks in licence_note(licence)
