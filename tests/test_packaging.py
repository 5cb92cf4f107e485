"""What a wheel holds, and that the package is complete however Python finds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from nnunet_transfer import __version__

ROOT = Path(__file__).resolve().parents[1]
#: folders at the top level that the package holds as links
MAPPED = ("trainers", "dataset_conversion")
IMPORT_ALL = (
    "import nnunet_transfer, nnunet_transfer.trainers, nnunet_transfer.conversion, nnunet_transfer.discovery\n"
    "print(nnunet_transfer.__file__)\n"
    "print(nnunet_transfer.trainers.__file__)\n"
    "print(nnunet_transfer.conversion.__file__)\n"
    "print(nnunet_transfer.discovery.__path__[0])\n"
)
CLEAN = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}


def _python(code: str, *flags: str, cwd: Path, environment: dict[str, str]) -> list[str]:
    run = subprocess.run([sys.executable, *flags, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds of this checkout, from a copy, so that nothing is built in the checkout itself."""
    copy = tmp_path_factory.mktemp("checkout") / "nnunet_transfer"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout: which files belong to the project is not known")
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name, follow_symlinks=not (ROOT / name).is_dir())
    out = copy.parent / "wheel"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy)]
    subprocess.run(pip, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        described = archive.read(metadata).decode()
    modules = {str(p.relative_to(ROOT)) for p in _sources("nnunet_transfer")}
    modules |= {f"nnunet_transfer/{p.relative_to(ROOT)}" for folder in MAPPED for p in _sources(folder)}
    assert {name for name in held if name.endswith(".py")} == modules
    assert all(name.startswith("nnunet_transfer/") for name in held)
    assert "nnunet_transfer/py.typed" in held
    assert "License-Expression: Apache-2.0" in described or "License: Apache-2.0" in described


@pytest.mark.slow
def test_the_package_index_can_show_the_description(wheel: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(wheel)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        described = archive.read(metadata).decode()
    links = re.findall(r"\]\(([^)]+)\)", described)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def _sources(folder: str) -> list[Path]:
    return [p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts]


@pytest.mark.slow
def test_files_beside_the_modules_are_in_the_wheel(wheel: Path) -> None:
    data = {
        f"nnunet_transfer/{p.relative_to(ROOT / 'nnunet_transfer')}"
        for suffix in ("*.css", "*.html", "*.json", "*.csv", "*.typed")
        for p in (ROOT / "nnunet_transfer").rglob(suffix)
    }
    with zipfile.ZipFile(wheel) as archive:
        assert data <= set(archive.namelist())


@pytest.mark.slow
def test_an_installed_wheel_is_complete(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    found = _python(IMPORT_ALL, cwd=tmp_path, environment=CLEAN | {"PYTHONPATH": str(target)})
    assert [Path(line).is_relative_to(target / "nnunet_transfer") for line in found] == [True] * 4


def test_python_started_inside_the_checkout_finds_the_mapped_packages() -> None:
    # the checkout's folder hides the installed package; -S leaves out an editable installation
    found = _python(IMPORT_ALL, "-S", cwd=ROOT, environment=CLEAN)
    assert [Path(line).is_relative_to(ROOT) for line in found] == [True] * 4
    assert Path(found[1]).resolve() == ROOT / "trainers" / "__init__.py"


def test_importing_the_setup_script_does_not_run_it() -> None:
    # nnU-Net imports every module of a folder in nnUNet_extTrainer
    assert _python("import setup; print(setup.HERE.name)", cwd=ROOT, environment=CLEAN) == [ROOT.name]


def test_versions_agree() -> None:
    for file, pattern in (
        ("CITATION.cff", r"(?m)^version: (\S+)$"),
        ("CHANGELOG.md", r"(?m)^## \[([^\]]+)\]"),
    ):
        found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"))
        assert found is not None, file
        assert found[1] == __version__, file


def test_the_pythons_listed_are_those_that_are_allowed() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    allowed = SpecifierSet(re.findall(r'python_requires="([^"]+)"', text)[0])
    listed = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    assert listed == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed]
