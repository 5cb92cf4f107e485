"""Which parts must stay light: conversion, evaluation, comparison and the command line work without torch."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_transfer

HEAVY = ("torch", "nnunetv2", "nnunet_transfer.trainers")
#: packages of which every module must be light
LIGHT_PACKAGES = ("conversion", "dataset_conversion", "evaluation", "comparison")
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


#: what every part may import; none of it imports more than what stands before it here
BASICS = {
    "errors",
    "channels",
    "components",
    "configurations",
    "registration",
    "recipes",
    "run_record",
    "files",
    "locks",
    "gpus",
    "processes",
    "work",
    "paths",
    "naming",
    "tables",
    "words",
    "subjects",
    "folds",
    "__version__",
}
#: part -> what else of this package its modules may import, at the top or inside functions
ALLOWED = {
    "errors": set(),
    "channels": {"errors"},
    "components": set(),
    "configurations": set(),
    "registration": {"errors", "words"},
    "recipes": {"errors", "registration"},
    "files": {"errors"},
    "locks": {"errors"},
    "gpus": set(),
    "processes": set(),
    "work": {"errors", "files", "locks"},
    "paths": {"errors"},
    "naming": {"errors", "registration", "recipes"},
    "tables": {"errors", "files"},
    "subjects": {"errors", "words", "tables"},
    "run_record": {"errors", "files"},
    "folds": {"errors", "files"},
    "words": set(),
    "_nnunet": BASICS,
    "conversion": BASICS,
    "dataset_conversion": BASICS | {"conversion"},
    "synthetic": BASICS | {"conversion"},
    "evaluation": BASICS,
    "comparison": BASICS | {"evaluation"},
    "networks": set(),
    # runs in a process without any other part
    "unpickling": set(),
    "sources": BASICS,
    "plans": BASICS | {"sources", "_nnunet"},
    "adaptation": BASICS | {"sources"},
    "checkpoints": BASICS | {"sources", "plans", "unpickling"},
    "sharing": BASICS | {"sources", "plans", "checkpoints"},
    "training": BASICS | {"_nnunet"},
    "finetuning": BASICS | {"_nnunet", "training", "adaptation", "sources", "plans"},
    "pretraining": BASICS | {"_nnunet", "training", "adaptation", "sources", "plans", "finetuning"},
    "ranking": BASICS | {"_nnunet", "training", "finetuning", "adaptation", "sources", "plans", "evaluation"},
    "trainers": BASICS | {"training", "finetuning", "pretraining"},
    "discovery": BASICS | {"training", "trainers"},
    "planners": BASICS | {"plans", "sources", "training"},
    "doctor": BASICS | {"discovery", "sources", "comparison"},
}
#: the public functions, a module each for what they are about: a study's steps call them, and `run_study` runs a study
API = ("api.data", "api.sources", "api.models", "api.comparison", "api.registration")
#: parts that stand above all of these; only they may import one another, in this order
TOP = (*API, "study", "api.studies", "api", "commands", "cli")
ALLOWED |= {part: {*ALLOWED, *TOP[:i]} for i, part in enumerate(TOP)}


ROOT = Path(nnunet_transfer.__file__).parent


def _parts() -> set[str]:
    """Return every folder and module right below the package, and each module of the API as a part of its own."""
    top = {p.stem for p in ROOT.iterdir() if (p.is_dir() or p.suffix == ".py") and not p.name.startswith("__")}
    return top | {f"api.{p.stem}" for p in (ROOT / "api").glob("*.py") if not p.name.startswith("__")}


def _files(part: str) -> list[Path]:
    if part == "api":  # what stands above its modules
        return [ROOT / "api" / "__init__.py"]
    path = ROOT.joinpath(*part.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def _part_of(name: str) -> str:
    """Return the part that a module, or a name in one, belongs to."""
    _, top, *rest = name.split(".")
    return f"api.{rest[0]}" if top == "api" and rest and f"api.{rest[0]}" in _parts() else top


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


def test_every_part_has_its_rule() -> None:
    assert _parts() == set(ALLOWED)


@pytest.mark.parametrize("package", ALLOWED)
def test_no_arrow_turns_round(package: str) -> None:
    names = {name for file in _files(package) for name in _imported_modules(file)}
    parts = {_part_of(name) for name in names if name.startswith("nnunet_transfer.")} & _parts()
    assert parts - {package} <= ALLOWED[package]


def test_networks_are_named_and_never_imported() -> None:
    """nnU-Net imports them by the name in plans, where this package may be all there is of it."""
    networks = {name for file in _files("networks") for name in _imported_modules(file)}
    assert not any(name.startswith("nnunetv2") for name in networks)
    for package in ALLOWED.keys() - {"networks"}:
        imported = {name for file in _files(package) for name in _imported_modules(file)}
        assert not any(name.startswith("nnunet_transfer.networks") for name in imported), package


#: classes from nnUNetTrainer to a pretrainer, both counted: more, and nobody finds where a method comes from
LEVELS = 5


def test_few_classes_lie_between_nnunets_trainer_and_a_pretrainer() -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_transfer.naming import PRETRAINERS
    from nnunet_transfer.trainers import get_trainer_class

    for name in PRETRAINERS:
        line = [base for base in get_trainer_class(name).__mro__ if issubclass(base, nnUNetTrainer)]
        assert len(line) <= LEVELS, [base.__name__ for base in line]
