"""Which parts must stay light: conversion, evaluation, comparison and the command line work without torch."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_transfer

HEAVY = ("torch", "nnunetv2", "nnunet_transfer.trainers")
#: packages of which every module must be light
LIGHT_PACKAGES = ("dataset_conversion", "evaluation", "comparison")
LIGHT_MODULES = (
    "nnunet_transfer.cli",
    "nnunet_transfer.discovery",
    "nnunet_transfer.doctor",
    "nnunet_transfer.files",
    "nnunet_transfer.naming",
    "nnunet_transfer.paths",
    "nnunet_transfer.plans",
    "nnunet_transfer.sources",
    "nnunet_transfer.study",
)
PRINT_HEAVY = f"print(*(m for m in {HEAVY!r} if m in sys.modules))"


def _modules(package: str) -> list[str]:
    __import__(package)
    path = sys.modules[package].__path__
    return [package, *(m.name for m in pkgutil.walk_packages(path, f"{package}."))]


def _heavy_after(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", f"import sys\n{code}\n{PRINT_HEAVY}"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_no_module_of_a_light_package_imports_torch(package: str) -> None:
    modules = _modules(f"nnunet_transfer.{package}")
    assert _heavy_after("\n".join(f"import {m}" for m in modules)) == ""


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_no_function_of_a_light_package_imports_torch(package: str) -> None:
    # an import inside a function would pass unseen above
    imported = {name.split(".")[0] for file in _files(package) for name in _imported_modules(file)}
    assert imported.isdisjoint({"torch", "torchvision", "nnunetv2"})


def test_shared_modules_and_commands_import_no_torch() -> None:
    modules = [*LIGHT_MODULES, *_modules("nnunet_transfer.commands")]
    assert _heavy_after("\n".join(f"import {m}" for m in modules)) == ""


def test_the_check_sees_an_import() -> None:
    assert _heavy_after("sys.modules['torch'] = sys") == "torch"


def test_importing_the_package_runs_nothing() -> None:
    assert _heavy_after("import nnunet_transfer") == ""
    assert nnunet_transfer.__version__


#: package -> what else of this package its modules may import, at the top or inside functions
BASICS = {"errors", "files", "paths", "naming", "subjects", "__version__"}
ALLOWED = {
    "dataset_conversion": BASICS,
    "evaluation": BASICS,
    "comparison": BASICS | {"evaluation"},
    "networks": set(),
    "sources": BASICS,
    "plans": BASICS | {"sources"},
    "planners": BASICS | {"plans", "sources", "training"},
    "adaptation": BASICS | {"sources"},
    "checkpoints": BASICS | {"sources", "plans"},
    "training": BASICS | {"_nnunet"},
    "finetuning": BASICS | {"_nnunet", "training", "adaptation", "sources", "plans"},
    "pretraining": BASICS | {"_nnunet", "training", "adaptation", "sources", "plans"},
    "trainers": BASICS | {"training", "finetuning", "pretraining"},
}


def _files(package: str) -> list[Path]:
    folder = Path(importlib.import_module(f"nnunet_transfer.{package}").__path__[0])
    return sorted(folder.rglob("*.py"))


def _imported_modules(file: Path) -> set[str]:
    """Return the full names of all that is imported in a file, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_no_arrow_turns_round(package: str) -> None:
    names = {name for file in _files(package) for name in _imported_modules(file)}
    parts = {name.split(".")[1] for name in names if name.startswith("nnunet_transfer.")}
    assert parts - {package} <= ALLOWED[package]


def test_networks_are_named_and_never_imported() -> None:
    """nnU-Net imports them by the name in plans, where this package may be all there is of it."""
    networks = {name for file in _files("networks") for name in _imported_modules(file)}
    assert not any(name.startswith("nnunetv2") for name in networks)
    for package in ALLOWED.keys() - {"networks"}:
        imported = {name for file in _files(package) for name in _imported_modules(file)}
        assert not any(name.startswith("nnunet_transfer.networks") for name in imported), package
