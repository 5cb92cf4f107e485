"""Run a whole study from one file, with Snakemake: here, or on a cluster.

Example:
  nnunet_transfer study init --target atlas_r2=/data/ATLAS_2 \\
      --source imagenet_resnet18d
  nnunet_transfer study check study.yaml   # what would run, and what is wrong
  nnunet_transfer study run study.yaml     # --smoke tries every step first
  nnunet_transfer study status study.yaml  # --watch repeats it until the end
  nnunet_transfer study report study.yaml  # the result so far

`init` writes a short study.yaml and checks it; without options it writes a long one with comments.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from nnunet_transfer.api import check_study, init_study, report_study, run_study, study_status
from nnunet_transfer.commands.actions import add_action, given_path
from nnunet_transfer.errors import SettingsError

DEFAULT_FILE = Path("study.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `study`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = add_action(
        actions,
        "init",
        "write a study file and check it; without options: a long one with comments",
        "study init --target atlas_r2=/data/ATLAS_2",
    )
    init.add_argument(
        "file",
        nargs="?",
        type=given_path,
        default=DEFAULT_FILE,
        metavar="FILE",
        help="the file to write (default: %(default)s)",
    )
    init.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="CONVERTER=FOLDER",
        help="a data set to segment, such as atlas_r2=/data/ATLAS_2; see `nnunet_transfer convert --list`",
    )
    init.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME",
        help="a published network to start from; see `nnunet_transfer sources fetch`",
    )
    init.add_argument("--profile", metavar="NAME", help="architecture (default: that of the sources)")
    for name, text in (
        ("check", "say what would run and what is wrong; run nothing"),
        ("run", "run or resume the study"),
        ("status", "show the state of the study"),
        ("report", "print the result so far and the path of the report"),
    ):
        _file_argument(add_action(actions, name, text, f"study {name} study.yaml"))
    run = actions.choices["run"]
    cores = os.cpu_count() or 1
    run.add_argument(
        "--jobs", type=int, metavar="N", help=f"steps at a time (default: one per GPU here or, without a GPU, {cores})"
    )
    run.add_argument("--profile", type=given_path, metavar="DIR", help="Snakemake profile, for instance for SLURM")
    run.add_argument("--smoke", action="store_true", help="try every step with trainings of five iterations, then stop")
    actions.choices["status"].add_argument(
        "--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="repeat until the run ends (default: 10)"
    )
    run.add_argument("--dry-run", action="store_true", help="say what would run; run nothing")
    run.add_argument(
        "--slurm-profile", type=given_path, metavar="DIR", help="write an example profile for SLURM, then exit"
    )
    step = add_action(
        actions, "step", "run one step in this process (for the workflow)", "study step study.yaml convert-atlas_r2"
    )
    _file_argument(step)
    step.add_argument("job", metavar="STEP", help="name of a step, as `status` shows it")


def _file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        type=given_path,
        default=DEFAULT_FILE,
        metavar="FILE",
        help="the study file (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Do the chosen action."""
    return ACTIONS[args.action](args)


def _init(args: argparse.Namespace) -> int:
    init_study(args.file, args.target, args.source, profile=args.profile)
    if not args.target:
        print(
            f"{args.file}: enter the paths of your data, then run: nnunet_transfer study check {shlex.quote(str(args.file))}"
        )
        return 0
    print(args.file.read_text(encoding="utf-8"))
    status = _check(args)
    if not status:
        print(f"first, in minutes: nnunet_transfer study run {shlex.quote(str(args.file))} --smoke")
    return status


def _check(args: argparse.Namespace) -> int:
    check = check_study(args.file)
    print(check)
    return 1 if check.errors else 0


def _run(args: argparse.Namespace) -> int:
    if args.slurm_profile:
        from nnunet_transfer.study.template import write_slurm_profile

        if args.jobs is not None or args.profile or args.smoke or args.dry_run:
            raise SettingsError("--slurm-profile writes a profile and runs nothing; give it without other options")
        print(write_slurm_profile(args.slurm_profile))
        return 0
    report = run_study(args.file, jobs=args.jobs, profile=args.profile, smoke=args.smoke, dry_run=args.dry_run)
    if not args.dry_run:
        print((report.parent / "summary.txt").read_text(encoding="utf-8"))
        print(f"Report: {report}")
    return 0


def _status(args: argparse.Namespace) -> int:
    if args.watch is not None and not args.watch > 0:
        raise SettingsError(f"--watch {args.watch:g}: give seconds above 0")
    from nnunet_transfer.study import read_study
    from nnunet_transfer.study.status import is_run, status_table, watch

    if args.watch is None:
        print(status_table(study_status(args.file)))
    else:
        study = read_study(args.file)
        watch(lambda: study_status(args.file), lambda: is_run(study), args.watch)
    return 0


def _report(args: argparse.Namespace) -> int:
    report, left_out = report_study(args.file)
    print((report.parent / "summary.txt").read_text(encoding="utf-8"))
    for line in left_out:
        print(f"not yet: {line}")
    print(f"Report: {report}")
    return 0


def _step(args: argparse.Namespace) -> int:
    from nnunet_transfer.study import read_study, study_jobs
    from nnunet_transfer.study.processes import end_at_signals
    from nnunet_transfer.study.steps import find_job, run_job

    end_at_signals()
    study = read_study(args.file)
    run_job(study, find_job(study_jobs(study), args.job))
    return 0


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "init": _init,
    "check": _check,
    "run": _run,
    "status": _status,
    "report": _report,
    "step": _step,
}
