"""Template files: a study, and a Snakemake profile for SLURM."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import write_text


def write_template(path: Path) -> None:
    """Write a commented study file as a template.

    Raises
    ------
    SettingsError
        If the file exists.
    """
    _write_new(path, "template.yaml")


def write_slurm_profile(folder: Path) -> Path:
    """Write an example of a Snakemake profile for SLURM; return its file.

    Raises
    ------
    SettingsError
        If the profile exists.
    """
    path = folder / "config.yaml"
    _write_new(path, "profiles/slurm/config.yaml")
    return path


def _write_new(path: Path, name: str) -> None:
    if path.exists():
        raise SettingsError(f"{path} exists; remove it or choose another name")
    write_text(path, files(__package__).joinpath(name).read_text(encoding="utf-8"))
