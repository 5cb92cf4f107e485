"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from nnunet_transfer.discovery import __path__ as discovery_path

# one thread per test process: the networks are tiny and the thread pools cost more than they give
os.environ.setdefault("OMP_NUM_THREADS", "1")

# how long an example takes says more about the machine's other work than about the code; all else, such as fixed
# examples where CI is set, stays as hypothesis chose it
settings.register_profile("no_deadline", parent=settings(), deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty nnU-Net folders under `tmp_path`, exported with no worker processes; returns their parent."""
    for variable, folder in (
        ("nnUNet_raw", "raw"),
        ("nnUNet_preprocessed", "preprocessed"),
        ("nnUNet_results", "results"),
    ):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.delenv("nnUNet_sources", raising=False)
    monkeypatch.setenv("nnUNet_extTrainer", discovery_path[0])
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_def_n_proc", "0")
    monkeypatch.setenv("nnUNet_compile", "f")
    return tmp_path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The private data folder; tests that need it are skipped, with the reason, where it is absent."""
    folder = Path(os.environ.get("NNUNET_TRANSFER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no private data folder at {folder}; set NNUNET_TRANSFER_DATA to run this test")
    return folder


#: files that take longest, in this order: started first, so that no worker is left alone with one at the end
LONGEST = (
    "test_chain.py",
    "test_study_run.py",
    "test_pretrainers.py",
    "test_docs_commands.py",
    "test_demo.py",
    "test_examples.py",
    "test_device_training.py",
    "test_self_supervised_family.py",
    "test_finetuning.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
