"""The file through which nnU-Net finds the planners, which the user can install in nnU-Net's folder or remove."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import atomic_path

SHIM = Path(__file__).with_name("nnunet_transfer_planners.py")
INSTEAD = "use `nnunet_transfer plan`, which writes the same plans"


def shim_target() -> Path:
    """Return where nnU-Net would find the file.

    Raises
    ------
    SettingsError
        If nnU-Net is not installed.
    """
    spec = find_spec("nnunetv2")
    if spec is None or spec.origin is None:
        raise SettingsError("nnunetv2 is not installed; pip install nnunetv2")
    return Path(spec.origin).parent / "experiment_planning" / SHIM.name


def installed_file() -> Path | None:
    """Return the file in nnU-Net's folder; `None` if it isn't there."""
    target = shim_target()
    return target if target.is_file() else None


def install() -> Path:
    """Copy the file to nnU-Net's folder, replacing an older one, and return its path.

    Raises
    ------
    SettingsError
        If the folder can't be written.
    """
    target = shim_target()
    try:
        with atomic_path(target) as temporary:
            shutil.copyfile(SHIM, temporary)
    except PermissionError:
        raise SettingsError(f"{target.parent} is not writable for you; {INSTEAD}") from None
    return target


def remove() -> Path | None:
    """Remove the file; return its path, or `None` if it wasn't there.

    Raises
    ------
    SettingsError
        If the folder can't be written.
    """
    target = installed_file()
    try:
        if target is not None:
            target.unlink()
    except PermissionError:
        raise SettingsError(f"{target} can't be removed by you; ask whoever installed nnU-Net") from None
    return target
