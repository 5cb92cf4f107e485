"""Getting checkpoints from addresses: from a server on this machine, from caches, and without a network."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_transfer.checkpoints import downloads
from nnunet_transfer.checkpoints.downloads import downloaded, is_address
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError, one_line
from nnunet_transfer.sources import list_sources, load_source
from tests.file_server import COMMIT, FileServer, serving, take_the_hubs_place

ADD = ["--name", "s", "--task", "classification", "--domain", "natural"]


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "sources"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as running:
        yield running


@pytest.fixture
def hub(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The same server, in the place of huggingface.co, with an empty cache."""
    take_the_hubs_place(server, tmp_path / "hub", monkeypatch)
    return server


@pytest.fixture(scope="module")
def weights() -> bytes:
    buffer = io.BytesIO()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), buffer)
    return buffer.getvalue()


def test_a_file_is_added_from_its_address(server: FileServer, weights: bytes, tmp_path: Path) -> None:
    server.files["/a/resnet.pth"] = weights
    assert main(["sources", "add", f"{server.address}/a/resnet.pth?token=secret#part", *ADD]) == 0
    card = load_source("s").card
    assert (card.extra["address"], card.extra["file"], card.format) == (
        f"{server.address}/a/resnet.pth",
        "resnet.pth",
        "ResNet",
    )
    assert "secret" not in (tmp_path / "sources/s/source.json").read_text()
    assert server.asked == ["/a/resnet.pth"]
    assert not (tmp_path / "torch").exists()


def test_a_download_has_no_settings_or_licence_from_the_folder_of_all_temporary_files(
    server: FileServer, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "temporary"
    shared.mkdir()
    (shared / "README.md").write_text("---\nlicense: mit\n---\n")
    (shared / "adaptation_plan.json").write_text("{}")
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    server.files["/resnet.pth"] = weights
    assert main(["sources", "add", f"{server.address}/resnet.pth", *ADD]) == 0
    card = load_source("s").card
    assert (card.licence, card.format) == ("", "ResNet")
    assert sorted(path.name for path in shared.iterdir()) == ["README.md", "adaptation_plan.json"]


def test_a_checksum_is_checked_of_files_on_this_machine_too(
    weights: bytes, tmp_path: Path, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "resnet.pth"
    path.write_bytes(weights)
    right = hashlib.sha256(weights).hexdigest()
    for place, message in ((path, f"has sha256 {right[:12]}, you state abcd0123"), (tmp_path, "is not a file")):
        assert main(["sources", "add", str(place), *ADD, "--sha256", "abcd0123"]) == 2
        assert message in capsys.readouterr().err
        assert not registry.exists()
    for stated in (right, right[:8].upper()):
        assert main(["sources", "add", str(path), *ADD, "--overwrite", "--sha256", stated]) == 0


@pytest.mark.parametrize("stated", ["", "abcd", "0123456", "g" * 64, "sha256:" + "0" * 64, "0" * 65])
def test_what_is_no_checksum_is_refused_instead_of_checking_less(
    stated: str, weights: bytes, tmp_path: Path, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "resnet.pth"
    path.write_bytes(weights)
    for action in (["add", str(path), *ADD], ["inspect", str(path)]):
        assert main(["sources", *action, "--sha256", stated]) == 2
        assert f"sha256 {stated or 'is empty'}" in capsys.readouterr().err
    assert not registry.exists()


def test_inspect_takes_addresses_too(
    server: FileServer, weights: bytes, capsys: pytest.CaptureFixture[str], registry: Path
) -> None:
    server.files["/resnet.pth"] = weights
    assert main(["sources", "inspect", f"{server.address}/resnet.pth"]) == 0
    output = capsys.readouterr().out
    assert "ResidualEncoderUNet" in output
    assert f"{server.address}/resnet.pth\n" in output
    server.files["/damaged.pth"] = weights[:100]
    assert main(["sources", "inspect", f"{server.address}/damaged.pth"]) == 2
    assert f"{server.address}/damaged.pth is not a weights file" in capsys.readouterr().err
    assert not registry.exists()


def test_a_taken_name_is_told_before_the_download(
    server: FileServer, weights: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/resnet.pth"] = weights
    for _ in range(2):
        status = main(["sources", "add", f"{server.address}/resnet.pth", *ADD])
    assert status == 2
    assert "source s already exists; choose another name, or replace it with --overwrite" in capsys.readouterr().err
    assert len(server.asked) == 1


def test_the_checksum_in_a_name_is_checked_and_the_file_kept_for_the_next_time(
    server: FileServer, weights: bytes, tmp_path: Path
) -> None:
    digits = hashlib.sha256(weights).hexdigest()[:8]
    server.files[f"/resnet18-{digits}.pth"] = weights
    server.files["/resnet18-00000000.pth"] = weights
    for _ in range(2):
        with downloaded(f"{server.address}/resnet18-{digits}.pth") as file:
            assert file.read_bytes() == weights
    # where torchvision and timm look, too
    assert file == tmp_path / "torch" / "hub" / "checkpoints" / f"resnet18-{digits}.pth"
    assert len(server.asked) == 1
    file.write_bytes(b"damaged")
    with downloaded(f"{server.address}/resnet18-{digits}.pth") as file:
        assert file.read_bytes() == weights
    with pytest.raises(CheckpointError, match=f"has sha256 {digits}.*its name says 00000000"):
        downloaded(f"{server.address}/resnet18-00000000.pth").__enter__()
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_the_user_s_checksum_decides(server: FileServer, weights: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["/resnet.pth"] = weights
    right = hashlib.sha256(weights).hexdigest()
    assert main(["sources", "add", f"{server.address}/resnet.pth", "--sha256", "0" * 64, *ADD]) == 2
    assert f"you state {'0' * 64}" in capsys.readouterr().err
    assert list_sources() == []
    assert main(["sources", "add", f"{server.address}/resnet.pth", "--sha256", right.upper(), *ADD]) == 0


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (404, {}, "answers 404"),
        (500, {}, "answers 500"),
        (200, {"Content-Type": "text/html; charset=utf-8"}, "is a web page"),
        (200, {"Content-Length": str(9 << 30)}, "is larger than 8 GiB"),
        (200, {"Content-Length": "1000"}, "ended after 4 of 1000 bytes"),
        (200, {"Content-Length": "-4"}, "states a length of -4"),
        (200, {"Content-Length": "4 MB"}, "states a length of 4 MB"),
        (200, {"X": "x" * 70_000}, "can't be reached"),
        (302, {"Location": "file:///etc/passwd"}, "is not allowed"),
        (
            302,
            {"Location": "http://elsewhere.invalid/x.pth?token=secret"},
            "redirects to another host, elsewhere.invalid",
        ),
        (302, {"Location": "http://[/"}, "invalid address"),
        (302, {"Location": "/x.pth"}, "answers 302"),
    ],
)
def test_what_a_server_may_do_is_one_line_and_leaves_nothing(
    server: FileServer, status: int, headers: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/x.pth"] = b"abcd"
    server.status["/x.pth"] = status
    server.headers["/x.pth"] = headers
    assert main(["sources", "add", f"{server.address}/x.pth", *ADD]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
    assert "secret" not in text
    assert list_sources() == []


def test_redirects_stay_on_the_host_unless_a_checksum_says_what_comes(server: FileServer, weights: bytes) -> None:
    server.files["/new.pth"] = weights
    server.status["/old.pth"], server.headers["/old.pth"] = 302, {"Location": "/new.pth"}
    with downloaded(f"{server.address}/old.pth") as file:
        assert file.read_bytes() == weights
    with serving() as other:
        other.status["/x.pth"], other.headers["/x.pth"] = 302, {"Location": f"{server.address}/new.pth"}
        with pytest.raises(CheckpointError, match="redirects to another host"):
            downloaded(f"{other.address}/x.pth").__enter__()
        with downloaded(f"{other.address}/x.pth", hashlib.sha256(weights).hexdigest()) as file:
            assert file.read_bytes() == weights


@settings(max_examples=200)
@given(st.sampled_from(["http://", "https://", "hf://", "hf://a/b/", "http://127.0.0.1:9/"]), st.text(max_size=12))
def test_addresses_of_any_text_are_one_line(scheme: str, rest: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        # nothing answers, and no name is looked up
        patched.setattr(urllib.request.OpenerDirector, "open", unreachable)
        patched.setattr(huggingface_hub, "hf_hub_download", unreachable)
        with pytest.raises(CheckpointError) as caught:
            downloaded(f"{scheme}{rest}").__enter__()
    assert "\n" not in one_line(caught.value)


def unreachable(*_: object, **__: object) -> None:
    raise ConnectionRefusedError


@pytest.mark.parametrize(
    "address",
    [
        "hf://a/b/../../x.pth",
        "hf://../b/x.pth",
        "hf://a/b/x.pth@../../y",
        "hf://a/b//x.pth",
        "hf://a/b/x\0.pth",
        "https://huggingface.co/a/b/resolve/main/..%2f..%2fx.pth",
        "https://huggingface.co/a/b/resolve/..%2f..%2fy/x.pth",
    ],
)
def test_paths_that_leave_a_repository_are_refused(address: str, hub: FileServer) -> None:
    with pytest.raises(CheckpointError, match="has an invalid part"):
        downloaded(address).__enter__()
    assert hub.asked == []


def test_a_name_that_leads_elsewhere_is_not_used(server: FileServer, weights: bytes, tmp_path: Path) -> None:
    for path in ("/a/..%2f..%2f..", "/%2e%2e", "/a/%00", "/"):
        server.files[path] = weights
        with downloaded(f"{server.address}{path}") as file:
            assert file.name == "checkpoint"


@pytest.mark.parametrize("name", ["x.pth", "x-0123456789abcdef.pth"])
@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "https://nowhere.invalid"])
def test_no_network_is_one_line(host: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "add", f"{host}/{name}", *ADD]) == 2
    text = capsys.readouterr().err
    assert "can't be reached" in text
    assert text.count("\n") == 1
    # the cache is looked up by the checksum in the name
    assert (f"put it into {torch.hub.get_dir()}/checkpoints here" in text) == ("-0123" in name)
    assert "in a study: `checkpoint`" in text


@pytest.mark.parametrize("text", ["file:///etc/passwd", "ftp://x/y", "hf://x", "hf://owner/repository/"])
def test_other_addresses_are_refused(text: str) -> None:
    assert is_address(text)
    with pytest.raises(CheckpointError, match=r"not an address to download from|is incomplete"):
        downloaded(text).__enter__()


@pytest.mark.parametrize("text", ["a/b.pth", "/a/b.pth", "C:\\a.pth", "C:/a.pth", "a:b", ""])
def test_paths_are_no_addresses(text: str) -> None:
    assert not is_address(text)


def test_hugging_face_by_its_own_library(hub: FileServer, weights: bytes, tmp_path: Path) -> None:
    hub.files["/owner/repo/resolve/main/sub/checkpoint_final.pth"] = weights
    address = "hf://owner/repo/sub/checkpoint_final.pth"
    assert main(["sources", "add", address, *ADD]) == 0
    assert load_source("s").card.extra["address"] == address
    asked = len(hub.asked)
    # the address of the page and of the file are the same file; it is in the cache now
    for page in ("blob", "resolve"):
        with downloaded(f"https://huggingface.co/owner/repo/{page}/main/sub/checkpoint_final.pth?x=1") as file:
            assert file.read_bytes() == weights
    assert len(hub.asked) == asked
    assert (tmp_path / "hub") in file.parents
    # of a pull request
    hub.files["/owner/repo/resolve/refs%2Fpr%2F1/checkpoint_final.pth"] = weights
    with downloaded("https://huggingface.co/owner/repo/blob/refs%2Fpr%2F1/checkpoint_final.pth") as file:
        assert file.read_bytes() == weights
    file.resolve().write_bytes(b"another file")
    with pytest.raises(CheckpointError, match="Hugging Face states"):
        downloaded(address).__enter__()


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("license: cc-by-4.0\ntags:\n- mri", "cc-by-4.0"),
        ("license: other\nlicense_name: 'lab-terms'", "lab-terms"),
        ("tags: []", ""),
    ],
)
def test_the_licence_of_a_model_card_is_kept(hub: FileServer, weights: bytes, head: str, licence: str) -> None:
    hub.files["/owner/repo/resolve/main/x.pth"] = weights
    hub.files["/owner/repo/resolve/main/README.md"] = f"---\n{head}\n---\n# A model\nlicense: none of it\n".encode()
    assert main(["sources", "add", "hf://owner/repo/x.pth", *ADD]) == 0
    assert load_source("s").card.licence == licence
    assert main(["sources", "add", "hf://owner/repo/x.pth", *ADD, "--overwrite", "--licence", "mine"]) == 0
    assert load_source("s").card.licence == "mine"
    # several networks in folders of one repository, as those of the SSL3D challenge
    hub.files["/owner/repo/resolve/main/ResEnc-L/team/x.pth"] = weights
    assert main(["sources", "add", "hf://owner/repo/ResEnc-L/team/x.pth", *ADD, "--overwrite"]) == 0
    assert load_source("s").card.licence == licence


@pytest.mark.parametrize("status", [403, 500])
def test_a_model_card_that_fails_to_come_is_named_and_the_weights_are_read(
    hub: FileServer, weights: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    hub.files["/owner/repo/resolve/main/x.pth"] = weights
    hub.status["/owner/repo/resolve/main/README.md"] = status
    with downloaded("hf://owner/repo/x.pth") as file:
        assert file.read_bytes() == weights
    (warning,) = [record.getMessage() for record in caplog.records if record.name == downloads.__name__]
    assert warning.startswith("README.md of hf://owner/repo was not read")
    assert "\n" not in warning


def test_hugging_face_s_cache_serves_without_a_network(
    tmp_path: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cache as its library lays it out, brought from another machine."""
    folder = tmp_path / "hub" / "models--owner--repo"
    blob = folder / "blobs" / hashlib.sha256(weights).hexdigest()
    pointer = folder / "snapshots" / COMMIT / "checkpoint_final.pth"
    for parent in (blob.parent, pointer.parent, folder / "refs"):
        parent.mkdir(parents=True)
    blob.write_bytes(weights)
    pointer.symlink_to(blob)
    (folder / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["sources", "add", "hf://owner/repo/checkpoint_final.pth", *ADD]) == 0
    assert main(["sources", "add", "hf://owner/repo/other.pth", *ADD, "--overwrite"]) == 2
    text = capsys.readouterr().err
    assert "can't be reached (Hugging Face does not answer, and it is not in the cache)" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(("status", "message"), [(404, "does not exist on Hugging Face"), (403, "needs your consent")])
def test_hugging_face_s_refusals_are_one_line(
    hub: FileServer, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.status["/owner/repo/resolve/main/x.pth"] = status
    assert main(["sources", "add", "hf://owner/repo/x.pth", *ADD]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def test_a_broken_connection_to_hugging_face_is_one_line(hub: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    hub.files["/owner/repo/resolve/main/x.pth"] = b"abcd"
    hub.headers["/owner/repo/resolve/main/x.pth"] = {"X-Linked-Size": "7"}
    assert main(["sources", "add", "hf://owner/repo/x.pth", *ADD]) == 2
    text = capsys.readouterr().err
    assert "can't be reached" in text
    assert text.count("\n") == 1


def test_timm_s_and_torchvision_s_names_become_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def note(address: str, folder: Path) -> Path:
        asked.append(address)
        return folder

    monkeypatch.setattr(downloads, "_from_hub", note)
    monkeypatch.setattr(downloads, "_from_web", note)
    for address in ("timm://resnet18d.ra2_in1k", "torchvision://ResNet50_Weights.IMAGENET1K_V1"):
        with downloaded(address):
            pass
    assert asked == [
        "hf://timm/resnet18d.ra2_in1k/model.safetensors",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    ]
    for address in (
        "timm://resnet18d.nonsense",
        "timm://nonsense",
        "torchvision://ResNet50",
        "torchvision://X_Weights.V",
    ):
        with pytest.raises(CheckpointError, match="has no weights"):
            downloaded(address).__enter__()


def test_a_full_disk_is_not_taken_for_a_missing_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> SimpleNamespace:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", full)
    with pytest.raises(OSError, match="No space left"):
        downloaded("https://x/y.pth").__enter__()
