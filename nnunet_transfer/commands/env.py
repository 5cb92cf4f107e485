"""Print the shell lines that make nnU-Net find the trainers: eval "$(nnunet_transfer env)"."""

from __future__ import annotations

import argparse
import os
import shlex

from nnunet_transfer.discovery import __path__ as discovery_path

VARIABLE = "nnUNet_extTrainer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def run(args: argparse.Namespace) -> int:
    """Print the line."""
    print(f"export {VARIABLE}={shlex.quote(trainer_folders(os.environ.get(VARIABLE, '')))}")
    return 0


def trainer_folders(present: str) -> str:
    """Return the value of `nnUNet_extTrainer`: this package's folder before those that the user set already."""
    own = discovery_path[0]
    others = [folder for folder in present.split(os.pathsep) if folder.strip() and folder != own]
    return os.pathsep.join([own, *others])
