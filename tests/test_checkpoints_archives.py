"""Archives that lead elsewhere, swell, lie about their sizes or are packed otherwise, and what is taken for one."""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save

from nnunet_transfer.api import publish_source
from nnunet_transfer.checkpoints import inspect_checkpoint
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.unpickling import torch_files
from tests.checkpoint_files import added, build, plans_architecture, valid

pytestmark = pytest.mark.usefixtures("registry")


@pytest.mark.parametrize(
    "name", ["../../evil/fold_0/checkpoint_final.pth", "/evil/fold_0/checkpoint_final.pth", "..\\e.pth"]
)
def test_archive_paths_can_t_escape(tmp_path: Path, name: str) -> None:
    path = tmp_path / "deep" / "model.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, valid(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="outside the archive"):
        inspect_checkpoint(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_archives_that_swell(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/fold_0/checkpoint_final.pth", bytes(200 << 20))
    with pytest.raises(CheckpointError, match="would unpack to"):
        inspect_checkpoint(path)


def test_archives_that_lie_about_their_members_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/plans.json", "{}")
        archive.writestr("m/fold_0/checkpoint_final.pth", bytes(50 << 20))
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\1\2")
    content[entry + 20 : entry + 24] = (40 << 20).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="would unpack to"):
        inspect_checkpoint(path)
    assert main(["export-stock", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "would unpack to more than 100 times its size" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["damaged", "packed in another way"])
def test_archives_that_can_t_be_unpacked(fault: str, tmp_path: Path) -> None:
    path, weights = tmp_path / "model.zip", valid(tmp_path)
    packing = zipfile.ZIP_DEFLATED if fault == "damaged" else zipfile.ZIP_LZMA
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("m/plans.json", "{}")
        archive.writestr("m/fold_0/checkpoint_final.pth", weights)
    content = bytearray(path.read_bytes())
    if fault == "damaged":
        start = content.find(b"checkpoint_final.pth") + 30
        content[start : start + 99] = b"\xff" * 99
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged" if fault == "damaged" else "packed in a way"):
        inspect_checkpoint(path)
    assert main(["export-stock", str(path), "-o", str(tmp_path / "out")]) == 2


def test_torch_files_that_swell(tmp_path: Path) -> None:
    original = zipfile.ZipFile(io.BytesIO(valid(tmp_path)))
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in original.namelist():
            archive.writestr(member, original.read(member))
        archive.writestr("valid/data/9999", bytes(50 << 20))
    with pytest.raises(CheckpointError, match="would unpack to more"):
        inspect_checkpoint(path)


END, END_64, LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"


def end_64(directory: int) -> bytes:
    """Return zip64's end record that states a list of members of this size."""
    return END_64 + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 1, 1, directory, 0)


def locator_64(place: int, disks: int = 1) -> bytes:
    return LOCATOR_64 + struct.pack("<LQL", 0, place, disks)


@pytest.mark.parametrize(
    "content",
    [
        locator_64(0, disks=2) + END + bytes(18),
        LOCATOR_64 + bytes(4) + END + bytes(18),
        b"x" * 99 + locator_64(0, disks=2) + END + bytes(18),
        end_64(1) + locator_64(1 << 63) + END + bytes(18),
        END,
        END + bytes(17),
        b"x" * (1 << 17) + END + bytes(18),
    ],
)
def test_ends_of_archives_without_an_archive_are_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    for command in (["sources", "inspect", str(path)], ["export-stock", str(path), "-o", str(tmp_path / "out")]):
        assert main(command) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def archive_of(members: int) -> tuple[bytes, bytes]:
    """Return an archive without its end record, and that record."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(members):
            archive.writestr(f"m/{number}", b"")
    content = buffer.getvalue()
    return content[:-22], content[-22:]


def _second_mark(body: bytes, end: bytes) -> bytes:
    # the numbers of members look like the start of a record, which is then incomplete
    return body + end[:8] + END + end[12:]


def _misleading_locator(body: bytes, end: bytes) -> bytes:
    """The record in front of the locator counts, and the locator points to another one."""
    (directory,) = struct.unpack("<I", end[12:16])
    return end_64(0) + body + end_64(directory) + locator_64(0) + end[:12] + bytes(10)


def _located_record(body: bytes, end: bytes) -> bytes:
    """The record that the locator points to counts."""
    (directory,) = struct.unpack("<I", end[12:16])
    return body + end_64(directory) + end_64(0) + locator_64(len(body)) + end[:12] + bytes(10)


def _behind_a_long_comment(body: bytes, end: bytes) -> bytes:
    """The locator lies in front of the last bytes, which hold the end record and its comment."""
    (directory,) = struct.unpack("<I", end[12:16])
    record = end_64(directory) + locator_64(len(body)) + end[:12] + bytes(8)
    return body + record + struct.pack("<H", 0xFFFF) + b"x" * 0xFFFF


@pytest.mark.parametrize(
    "change",
    [lambda body, end: body + end, _second_mark, _misleading_locator, _located_record, _behind_a_long_comment],
)
def test_long_lists_of_members_are_refused_unread(
    change: Callable[[bytes, bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(change(*archive_of(100)))
    monkeypatch.setattr(torch_files, "MAX_ZIP_DIRECTORY", 1000)
    with pytest.raises(CheckpointError, match="lists members in"):
        inspect_checkpoint(path)
    path.write_bytes(change(*archive_of(3)))
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(path)
    assert "lists members in" not in str(caught.value)


def test_a_folder_with_the_name_of_a_file_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/config.json/checkpoint_final.pth", valid(tmp_path))
        archive.writestr("m/config.json", "{}")
    assert inspect_checkpoint(path)["stages"] == 3


def test_a_safetensors_file_whose_length_reads_pk(tmp_path: Path) -> None:
    """A header of 19280 bytes, or 65536 more, begins with the letters that zip files begin with."""
    weights = {key: tensor.clone() for key, tensor in build(plans_architecture()).state_dict().items()}
    content = save({key: tensor for key, tensor in weights.items() if ".all_modules." not in key})
    (length,) = struct.unpack("<Q", content[:8])
    padding = (0x4B50 - length) % 0x10000
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        struct.pack("<Q", length + padding) + content[8 : 8 + length] + b" " * padding + content[8 + length :]
    )
    assert path.read_bytes()[:2] == b"PK"
    assert inspect_checkpoint(path)["stages"] == 3


def test_a_published_source_in_an_archive_or_inner_folder_keeps_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read as any weights, it lost the names of its training cases, and with them every warning of leakage."""
    added(build(plans_architecture()).state_dict(), tmp_path)
    folder = publish_source("s", tmp_path / "outer" / "to_upload", licence="MIT")
    archive = shutil.make_archive(str(tmp_path / "upload"), "zip", folder.parent)
    for place, advice in ((archive, "unpack it and give its folder"), (str(folder.parent), "give its folder")):
        assert main(["sources", "add", place, *["--name", "x", "--task", "segmentation", "--domain", "t1"]]) == 2
        said = capsys.readouterr().err
        assert "to_upload/weights.safetensors belongs to a published source, whose card would be left out" in said
        assert said.endswith(f"; {advice}\n")
