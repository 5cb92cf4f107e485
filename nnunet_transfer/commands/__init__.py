"""The sub-commands: one thin module each, imported when it is used."""

from __future__ import annotations

#: so that `--help` answers at once
COMMANDS: dict[str, tuple[str, str]] = {
    "env": ("env", "print the shell line that makes nnU-Net find the trainers"),
    "doctor": ("doctor", "check the installation and say how to fix what is wrong"),
    "demo": ("demo", "run a whole study on small synthetic data, without a GPU"),
    "convert": ("convert", "turn a public data set, or your own, into an nnU-Net data set"),
    "pool": ("pool", "pool data sets with different labels into one to pre-train on"),
    "synthesize": ("synthesize", "make images from label maps, or paste lesions, to pre-train on"),
    "install-splits": ("install_splits", "put a data set's folds where nnU-Net reads them"),
    "sources": ("sources", "add, fetch, list, rank and publish pre-trained networks"),
    "plan": ("plan", "write plans with the architecture of a profile or a source"),
    "planners": ("planners", "list the planners, or install them for nnU-Net's own commands"),
    "trainers": ("trainers", "list the trainers, recipes and name suffixes"),
    "study": ("study", "run a whole study from one file, here or on a cluster"),
    "evaluate": ("evaluate", "score a folder of predictions against references"),
    "compare": ("compare", "compare all arms of a target over cross-validation"),
    "export-stock": ("export_stock", "export a trained model for people who have only nnU-Net"),
    "completion": ("completion", "print a script that completes commands and options in a shell"),
}
