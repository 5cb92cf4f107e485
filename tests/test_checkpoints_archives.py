"""Archives that lead elsewhere, swell, lie about their sizes or are packed otherwise."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from nnunet_transfer.checkpoints import inspect_checkpoint
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError
from tests.checkpoint_files import valid

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
