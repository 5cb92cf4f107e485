"""Print the shell line with which nnU-Net finds the trainers.

  eval "$(nnunet_transfer env)"

It puts one folder first in nnUNet_extTrainer and keeps the folders you have set there.
"""

from __future__ import annotations

import argparse
import os
import shlex

from nnunet_transfer.discovery import VARIABLE, search_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def run(args: argparse.Namespace) -> int:
    """Print the export on stdout."""
    print(f"export {VARIABLE}={shlex.quote(search_path(os.environ.get(VARIABLE, '')))}")
    return 0
