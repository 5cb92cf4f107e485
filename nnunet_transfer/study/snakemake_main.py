"""Snakemake's command line with the executor of this package: `python -m nnunet_transfer.study.snakemake_main`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Run Snakemake and exit with its status."""
    from snakemake.cli import main as snakemake
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    from nnunet_transfer.study import executor

    ExecutorPluginRegistry().register_plugin(executor.NAME, executor)
    snakemake(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
