"""Files that are no weights are called what they are, with advice."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_transfer.checkpoints import Reading, inspect_checkpoint
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError


def _tar(weights: bytes) -> bytes:
    """Return an archive of two checkpoints; the last of them is a zip archive that ends where the tar archive does."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("checkpoint_best.pth", "checkpoint_final.pth"):
            member = tarfile.TarInfo(name)
            member.size = len(weights)
            archive.addfile(member, io.BytesIO(weights))
    return stream.getvalue()


def _array(weights: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.frombuffer(weights, dtype=np.uint8))
    return stream.getvalue()


#: name of a file -> its content, and what is said about it
FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "w.pth.gz": (gzip.compress, "is compressed with gzip; unpack it"),
    "w.tar": (_tar, "is a tar archive; unpack it"),
    "w.h5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file.*save the weights as a state dict"),
    "w.npy": (_array, "is a NumPy array; save the weights as a state dict"),
    "w.onnx": (lambda _: b"\x08\x07\x12\x07pytorch", "is a model for ONNX or TensorFlow; save"),
    "w.pth": (lambda _: b"\n<!DOCTYPE html><html>", "is a web page or another text; download the file itself"),
    "w.pt": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "is not downloaded yet.*`git lfs pull"),
    "w.ckpt": (lambda _: b"/annex/objects/MD5E-s1--0.ckpt\n", "is not downloaded yet.*`datalad get"),
}


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_other_files_are_called_what_they_are(name: str, trust: bool, tmp_path: Path) -> None:
    weights = io.BytesIO()
    torch.save({"encoder.stages.0.0.convs.0.conv.weight": torch.zeros(2, 1, 3, 3)}, weights)
    made, said = FILES[name]
    path = tmp_path / name
    path.write_bytes(made(weights.getvalue()))
    with pytest.raises(CheckpointError, match=f"{path.name} {said}"):
        inspect_checkpoint(path, reading=Reading(trust=trust))


def test_a_folder_without_weights_says_which_files_are_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert main(["sources", "inspect", str(tmp_path)]) == 2
    assert "has no weights file (.pth, .pt," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("run/fold_0/checkpoint_final.pth", b"c", "run/fold_0/checkpoint_final.pth is not a weights file"),
        ("run/plans.json", b"[", "run/plans.json is not valid JSON"),
        ("run/fold_0/plans.json", b"[", "run/fold_0/plans.json is not valid JSON"),
    ],
)
def test_errors_name_files_in_an_archive_by_the_archive(
    member: str, content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = io.BytesIO()
    torch.save({"encoder.stages.0.0.convs.0.conv.weight": torch.zeros(2, 1, 3, 3)}, weights)
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in ({"run/fold_0/checkpoint_final.pth": weights.getvalue()} | {member: content}).items():
            archive.writestr(name, data)
    assert main(["sources", "inspect", str(path)]) == 2
    assert f"sources: {path}/{said}" in capsys.readouterr().err
