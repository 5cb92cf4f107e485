"""Files that are damaged or want more than to be read."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_transfer.checkpoints import Reading, add_source, formats, inspect_checkpoint, reading
from nnunet_transfer.checkpoints.reading import read_weights_file
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError, SourceError
from nnunet_transfer.sources.keys import canonical_key
from nnunet_transfer.unpickling import process
from tests.checkpoint_files import build, nnunet_run, plans_architecture, valid

pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read where the test runs: to start a process takes longer than to read a small file."""
    monkeypatch.setattr(reading, "answer_of", process.answer)


class Executes:
    """Unpickling it makes a file: the proof that something ran."""

    def __init__(self, evidence: Path, function: Any = os.mkdir) -> None:
        self.evidence = evidence
        self.function = function

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.function, (str(self.evidence),)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_that_run_a_program_are_refused_by_its_name(tmp_path: Path, legacy: bool) -> None:
    path, evidence = tmp_path / "bad.pth", tmp_path / "evidence"
    torch.save({"state_dict": Executes(evidence)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"asks for (posix|os)\.mkdir.*--trust"):
        inspect_checkpoint(path)
    assert not evidence.exists()
    assert main(["sources", "add", str(path), "--name", "x", "--task", "segmentation", "--domain", "t1"]) == 2
    assert not evidence.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__])
def test_builtins_are_refused_by_name(tmp_path: Path, function: Any) -> None:
    path = tmp_path / "bad.pth"
    torch.save({"a": Executes(tmp_path, function)}, path)
    with pytest.raises(CheckpointError, match=rf"asks for (\w+\.)?{function.__name__}, which"):
        inspect_checkpoint(path)


def test_plain_pickles_don_t_run_either(tmp_path: Path) -> None:
    path, evidence = tmp_path / "bad.pkl", tmp_path / "evidence"
    path.write_bytes(pickle.dumps({"a": Executes(evidence)}))
    with pytest.raises(CheckpointError):
        inspect_checkpoint(path)
    assert not evidence.exists()


def test_trust_reads_what_was_refused_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, registry: Path
) -> None:
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    content["counter"] = collections.Counter("aab")  # harmless, but not on the list
    content["path"] = Path("x")
    path = tmp_path / "run.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"asks for pathlib"):
        inspect_checkpoint(path)
    add_source(path, "s", task="segmentation", domain="t1", reading=Reading(trust=True))
    assert "it may run any program" in caplog.text
    assert "without checks" in (registry / "s" / "source.json").read_text()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, kept: float) -> None:
    content = valid(tmp_path)
    path = tmp_path / "cut.pth"
    path.write_bytes(content[: int(kept if kept in (0, 1, 100) else kept * len(content))])
    with pytest.raises(CheckpointError, match="download it again"):
        inspect_checkpoint(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(min_size=1, max_size=300),
    prefix=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x10" + b"\0" * 7 + b"{"]),
)
def test_noise_is_refused_in_one_line(in_this_process: None, tmp_path: Path, data: bytes, prefix: bytes) -> None:
    path = tmp_path / "noise.pth"
    path.write_bytes(prefix + data)
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_flipped_bytes_never_crash(in_this_process: None, tmp_path: Path, seed: int) -> None:
    content = bytearray(valid_once(tmp_path))
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, min(len(content), 40_000), 20):
        content[position] = rng.integers(256)
    path = tmp_path / "flipped.pth"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        inspect_checkpoint(path)


_VALID: list[bytes] = []


def valid_once(tmp_path: Path) -> bytes:
    if not _VALID:
        _VALID.append(valid(tmp_path))
    return _VALID[0]


def test_weights_that_are_no_numbers_never_enter_the_registry(tmp_path: Path, registry: Path) -> None:
    architecture = plans_architecture()
    network = build(architecture)
    network.encoder.stem.convs[0].conv.weight.data[0, 0, 0, 0, 0] = float("nan")
    path = tmp_path / "nan.pth"
    torch.save(nnunet_run(network, architecture), path)
    with pytest.raises(SourceError, match=r"encoder\.stem\.convs\.0\.conv\.weight has NaN"):
        add_source(path, "s", task="segmentation", domain="t1")
    assert not registry.exists() or not list(registry.iterdir())


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    network = build(plans_architecture())
    path = tmp_path / "int.pth"
    torch.save({k: v.to(torch.int8) for k, v in network.state_dict().items()}, path)
    with pytest.raises(SourceError, match=r"torch\.int8"):
        add_source(path, "s", task="segmentation", domain="t1")
    with pytest.raises(SourceError, match=r"torch\.int8"):
        inspect_checkpoint(path)


def test_shapes_that_the_bytes_don_t_fill(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    torch.save({"encoder.stem.convs.0.conv.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    with pytest.raises(CheckpointError, match="bytes don't fill"):
        inspect_checkpoint(path)


@pytest.mark.parametrize("kind", ["meta", "sparse", "nested", "quantised"])
def test_tensors_that_are_no_plain_ones(tmp_path: Path, kind: str) -> None:
    state = build(plans_architecture()).state_dict()
    key = "encoder.stem.convs.0.conv.weight"
    changed = {
        "meta": lambda w: w.to("meta"),
        "sparse": lambda w: w.to_sparse(),
        "quantised": lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
        "nested": lambda w: torch.nested.nested_tensor([w[0], w[1]]),
    }[kind]
    path = tmp_path / "x.pth"
    torch.save({**state, key: changed(state[key])}, path)
    with pytest.raises(CheckpointError, match="sparse, nested, quantised or without values"):
        inspect_checkpoint(path)


def test_values_stored_with_the_opposite_sign_are_not_taken_as_they_are(tmp_path: Path) -> None:
    """The imaginary part of a conjugate is such a view."""
    weight = torch.complex(torch.zeros(3), torch.ones(3)).conj().imag
    assert weight.is_neg()
    for legacy in (False, True):
        torch.save({"a.weight": weight}, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match="the opposite sign"):
            read_weights_file(tmp_path / "x.pth")


def test_a_storage_larger_than_the_file(tmp_path: Path) -> None:
    """In torch's older form a storage's size is a number in the pickle: 2**42 in the place of 108."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(108)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"K\x6c", b"\x8a\x08" + (1 << 42).to_bytes(8, "little")))
    with pytest.raises(CheckpointError, match="is damaged"):
        inspect_checkpoint(path)


def test_too_many_keys(tmp_path: Path) -> None:
    path = tmp_path / "many.pth"
    torch.save(dict.fromkeys(map(str, range(10**6)), torch.zeros(1)), path)
    with pytest.raises(CheckpointError, match="no network has so many"):
        inspect_checkpoint(path)


def test_long_names_of_many_tensors(tmp_path: Path) -> None:
    """Each is short enough, and so is their number; every name is compared with every layout."""
    path = tmp_path / "long.pth"
    torch.save({f"{'module.' * 100}{i}": torch.zeros(1) for i in range(4000)}, path)
    with pytest.raises(CheckpointError, match="longer names, than any network has"):
        inspect_checkpoint(path)
    # takes minutes if wrappers are removed one by one
    assert canonical_key("module." * 30_000 + "encoder.module._orig_mod.x") == "encoder.x"


@pytest.mark.parametrize(
    "content", [{}, [], 3, {"epoch": 1}, {"state_dict": {}}, {"state_dict": {"a": 1}}, torch.zeros(3)]
)
def test_files_without_weights(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "empty.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        inspect_checkpoint(path)


def test_terminals_see_no_control_characters_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    architecture = plans_architecture()
    run = nnunet_run(build(architecture), architecture)
    evil = "\x1b[2J\x9bm\nCC0"
    run["init_args"]["dataset_json"] |= {"channel_names": {"0": evil}, "licence": evil}
    torch.save(run, tmp_path / "x.pth")
    assert main(["sources", "inspect", str(tmp_path / "x.pth")]) == 0
    add = ["sources", "add", str(tmp_path / "x.pth"), "--name", "x", "--task", "segmentation", "--domain", "t1"]
    assert main(add) == 0
    assert main(["sources", "show", "x"]) == 0
    assert main(["sources", "list"]) == 0
    shown = capsys.readouterr()
    assert "\\x1b[2J" in shown.out
    assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)


def test_safetensors_headers_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(CheckpointError, match="header of"):
        read_weights_file(path)
    path.write_bytes((2).to_bytes(8, "little") + b"{}" + b"x" * 5)
    with pytest.raises(CheckpointError, match="download it again"):
        read_weights_file(path)
    header = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match="download it again"):
        read_weights_file(path)


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a file"):
        inspect_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="has no weights file"):
        inspect_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("(a+)+$ = x", "takes more than 1 s"),
        ("a = aaaaaaaaaa", "line 1: makes a name of"),
        ("( = x", "line 1: .* is not a rule"),
        ("a = \\9", "line 1: .* is not a rule"),
        (f"{'(' * 5000}a{')' * 5000} = x", "line 1: .* is not a rule|takes more than"),
    ],
)
def test_key_maps_end(rule: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "RENAMING_SECONDS", 1)
    (tmp_path / "map.txt").write_text(f"{rule}\n")
    torch.save({"a" * 500 + "b": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        inspect_checkpoint(tmp_path / "x.pth", reading=Reading(key_map=tmp_path / "map.txt"))
    assert "\n" not in str(caught.value)


def test_a_key_map_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "map.txt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="not a regular file"):
        inspect_checkpoint(tmp_path / "x.pth", reading=Reading(key_map=tmp_path / "map.txt"))


@pytest.mark.parametrize("place", ["README.md", "plans.json", "dataset.json", "adaptation_plan.json"])
@pytest.mark.parametrize("device", [False, True])
def test_what_lies_beside_weights_is_no_pipe_or_device(place: str, device: bool, tmp_path: Path) -> None:
    torch.save(build(plans_architecture()).state_dict(), tmp_path / "x.pth")
    (tmp_path / place).symlink_to("/dev/zero") if device else os.mkfifo(tmp_path / place)
    if place == "README.md":
        assert inspect_checkpoint(tmp_path / "x.pth")["licence"] == "unknown"
    else:
        with pytest.raises(CheckpointError, match="not a regular file"):
            inspect_checkpoint(tmp_path / "x.pth")
