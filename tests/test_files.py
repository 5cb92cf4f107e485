"""Nothing half-written is ever left under a name that a later step picks up."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_folder, atomic_path, read_bytes, read_json, sha256_of, write_json, write_text

FAULTS = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("a bug")]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)

# a real full disk: the system refuses to write past 4096 bytes
FULL_DISK = """
import resource, signal, sys
from nnunet_transfer.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_text(sys.argv[1], "x" * 100_000)
except OSError:
    raise SystemExit(3)
"""


def _fail_in_file(path: Path, fault: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("hal")
        raise fault


def _fail_in_folder(path: Path, fault: BaseException, *, overwrite: bool) -> None:
    with atomic_folder(path, overwrite=overwrite) as temporary:
        (temporary / "source.json").write_text("new")
        raise fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__)
def test_a_fault_while_writing_a_file_keeps_the_old_one(fault: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text("old")
    with pytest.raises(type(fault)):
        _fail_in_file(path, fault)
    assert [p.name for p in tmp_path.iterdir()] == ["plans.json"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__)
def test_a_fault_while_writing_a_folder_leaves_what_was_there(
    fault: BaseException, overwrite: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    if overwrite:
        folder.mkdir()
        (folder / "source.json").write_text("old")
    with pytest.raises(type(fault)):
        _fail_in_folder(folder, fault, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == (["source"] if overwrite else [])
    assert not overwrite or (folder / "source.json").read_text() == "old"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "cases.csv")])
    assert run.returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_last_move_fails_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "source.json").write_text("old")
    move = os.replace

    def failing(origin: str | Path, target: str | Path) -> None:
        if Path(target) == folder and Path(origin).name.startswith(".tmp-"):
            raise OSError(errno.EIO, "Input/output error")
        move(origin, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="Input/output"), atomic_folder(folder, overwrite=True) as temporary:
        (temporary / "source.json").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
    assert (folder / "source.json").read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "source"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("1")
    with atomic_folder(folder, overwrite=True) as temporary:
        (temporary / "b").write_text("2")
    assert [p.name for p in folder.iterdir()] == ["b"]
    assert [p.name for p in folder.parent.iterdir()] == ["source"]


def test_an_existing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(DataError, match="exists; remove it"), atomic_folder(tmp_path / "source"):
        raise AssertionError("the block must not run")


def test_readers_of_the_group_may_read_a_new_folder(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    with atomic_folder(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == plain.stat().st_mode


def test_the_temporary_file_keeps_the_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "case.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.touch()
    assert (tmp_path / "case.nii.gz").is_file()


@given(JSON)
def test_json_reads_back(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = tmp_path_factory.getbasetemp() / "content.json"
    write_json(path, content)
    assert read_json(path) == content


def test_json_of_numbers_that_json_lacks_is_text_that_python_reads(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": float("inf"), "a": 1})
    assert list(read_json(tmp_path / "x.json")) == ["b", "a"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_damaged_json_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset\.json is not valid JSON"):
        read_json(tmp_path / "dataset.json")


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.json does not exist"):
        read_json(tmp_path / "dataset.json")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (1 << 20) + 1])
def test_the_checksum_is_that_of_the_bytes(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "weights").write_bytes(content)
    assert sha256_of(tmp_path / "weights") == hashlib.sha256(content).hexdigest()


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Universität")
    assert (tmp_path / "a.txt").read_bytes() == "Universität".encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested deeper than"),
        ("[" * 70 + "]" * 70, "nested deeper than"),
        ("9" * 5000, "has 5000 digits"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        (" " * 5000, "larger than 4 KiB"),
    ],
)
def test_json_that_would_break_what_reads_it_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_json(tmp_path / "x.json", limit=1 << 12 if content.isspace() else 1 << 20)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "endless", "loop", "", "x" * 300, "a\0b"):
        with pytest.raises(DataError, match=r"not a regular file|can't be read"):
            read_bytes(tmp_path / name)


def test_one_of_several_folders_made_at_the_same_time_wins(tmp_path: Path) -> None:
    """All are complete before the first is moved to its place."""

    def save(content: str, overwrite: bool, barrier: threading.Barrier) -> bool:
        try:
            with atomic_folder(tmp_path / "source", overwrite=overwrite) as temporary:
                (temporary / "content").write_text(content)
                barrier.wait()
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)
        won = list(pool.map(lambda i: save(str(i), False, barrier), range(8)))
        assert won.count(True) == 1
        assert (tmp_path / "source" / "content").read_text() == str(won.index(True))
        assert all(pool.map(lambda i: save(str(i), True, barrier), range(8)))
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
