"""The public functions, as `import nnunet_transfer as nt` gives them; what they need is imported when they are called.

Examples
--------
A laboratory's own images, from files to a report:

>>> import nnunet_transfer as nt
>>> nt.list_sources()  # doctest: +SKIP
[...]
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from nnunet_transfer.adaptation import TransferReport as TransferReport
    from nnunet_transfer.adaptation import TransferSettings as TransferSettings
    from nnunet_transfer.checkpoints import Provenance as Provenance
    from nnunet_transfer.checkpoints import Reading as Reading
    from nnunet_transfer.checkpoints.converted import Format as Format
    from nnunet_transfer.comparison.pipeline import Comparison as Comparison
    from nnunet_transfer.comparison.settings import CompareSettings as CompareSettings
    from nnunet_transfer.conversion.description import Case as Case
    from nnunet_transfer.conversion.description import DatasetDescription as DatasetDescription
    from nnunet_transfer.conversion.description import LabelRule as LabelRule
    from nnunet_transfer.conversion.description import Layout as Layout
    from nnunet_transfer.conversion.engine import Outcome as Conversion
    from nnunet_transfer.conversion.plan import Options as ConversionOptions
    from nnunet_transfer.errors import TransferError as TransferError
    from nnunet_transfer.evaluation.folders import EvaluateSettings as EvaluateSettings
    from nnunet_transfer.evaluation.folders import Evaluation as Evaluation
    from nnunet_transfer.evaluation.protocols import LesionProtocol as LesionProtocol
    from nnunet_transfer.evaluation.scores import ScoringSettings as ScoringSettings
    from nnunet_transfer.plans.transfer_plans import PlanSettings as PlanSettings
    from nnunet_transfer.ranking.rank import RankedSource as RankedSource
    from nnunet_transfer.ranking.rank import RankSettings as RankSettings
    from nnunet_transfer.recipes import Phase as Phase
    from nnunet_transfer.recipes import Recipe as Recipe
    from nnunet_transfer.sources import Source as Source
    from nnunet_transfer.sources import SourceCard as SourceCard
    from nnunet_transfer.study import Study as Study
    from nnunet_transfer.synthetic.settings import Settings as SynthesisSettings

#: classes that the functions take and return -> the module that defines them and, where it differs, their name there
CLASSES: dict[str, tuple[str, str]] = {
    "Case": ("conversion.description", "Case"),
    "CompareSettings": ("comparison.settings", "CompareSettings"),
    "Comparison": ("comparison.pipeline", "Comparison"),
    "Conversion": ("conversion.engine", "Outcome"),
    "ConversionOptions": ("conversion.plan", "Options"),
    "DatasetDescription": ("conversion.description", "DatasetDescription"),
    "EvaluateSettings": ("evaluation.folders", "EvaluateSettings"),
    "Evaluation": ("evaluation.folders", "Evaluation"),
    "Format": ("checkpoints.converted", "Format"),
    "LabelRule": ("conversion.description", "LabelRule"),
    "Layout": ("conversion.description", "Layout"),
    "LesionProtocol": ("evaluation.protocols", "LesionProtocol"),
    "Phase": ("recipes", "Phase"),
    "PlanSettings": ("plans.transfer_plans", "PlanSettings"),
    "Provenance": ("checkpoints", "Provenance"),
    "RankSettings": ("ranking.rank", "RankSettings"),
    "RankedSource": ("ranking.rank", "RankedSource"),
    "Reading": ("checkpoints", "Reading"),
    "Recipe": ("recipes", "Recipe"),
    "ScoringSettings": ("evaluation.scores", "ScoringSettings"),
    "Source": ("sources", "Source"),
    "SourceCard": ("sources", "SourceCard"),
    "Study": ("study", "Study"),
    "SynthesisSettings": ("synthetic.settings", "Settings"),
    "TransferError": ("errors", "TransferError"),
    "TransferReport": ("adaptation", "TransferReport"),
    "TransferSettings": ("adaptation", "TransferSettings"),
}

__all__ = [
    "Case",
    "CompareSettings",
    "Comparison",
    "Conversion",
    "ConversionOptions",
    "DatasetDescription",
    "EvaluateSettings",
    "Evaluation",
    "Format",
    "LabelRule",
    "Layout",
    "LesionProtocol",
    "Phase",
    "PlanSettings",
    "Provenance",
    "RankSettings",
    "RankedSource",
    "Reading",
    "Recipe",
    "ScoringSettings",
    "Source",
    "SourceCard",
    "Study",
    "SynthesisSettings",
    "TransferError",
    "TransferReport",
    "TransferSettings",
    "add_source",
    "compare",
    "convert",
    "evaluate",
    "list_sources",
    "load_source",
    "plan",
    "publish_source",
    "rank_sources",
    "register_arm",
    "register_dataset",
    "register_format",
    "register_protocol",
    "register_recipe",
    "run_study",
    "synthesize",
    "transfer_weights",
]


def __getattr__(name: str) -> Any:
    if name not in CLASSES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    module, defined_as = CLASSES[name]
    return getattr(importlib.import_module(f"nnunet_transfer.{module}"), defined_as)


def convert(
    dataset: str | PathLike[str] | DatasetDescription,
    source: str | PathLike[str],
    dataset_id: int,
    options: ConversionOptions | None = None,
) -> Conversion:
    """Turn a public data set, or your own, into an nnU-Net data set in `$nnUNet_raw`.

    Parameters
    ----------
    dataset
        Name of a known data set (`nnunet_transfer convert --list`), a Python file that holds a `DatasetDescription`, or
        the description itself.
    source
        Folder that the data set was unpacked to.
    dataset_id
        nnU-Net's id of the new data set.
    options
        Channels, label set, rater, geometry, folds and more; the defaults are those of the command line.

    Returns
    -------
    Conversion
        The new folder, a record of each case, what was left out and why, and warnings.

    Raises
    ------
    TransferError
        If a case can't be converted (unless `options.allow_skips`) or the data set exists and differs.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> getfixture("lab_tree")  # five subjects: P1/t1.nii.gz, P1/lesions.nii.gz, ...
    PosixPath('...')
    >>> lab = nt.DatasetDescription(
    ...     name="lab",
    ...     title="our patients",
    ...     folder_name="Lab",
    ...     licence="internal",
    ...     citation="unpublished",
    ...     request="ask the study office",
    ...     label_sets={"lesion": nt.LabelRule({"lesion": 1})},
    ...     case="{subject}",
    ...     layouts=(
    ...         nt.Layout(
    ...             prefix="{subject:P[0-9]+}/",
    ...             images={"T1": "t1.nii[.gz]"},
    ...             labels={"lesion": "lesions.nii[.gz]"},
    ...         ),
    ...     ),
    ... )
    >>> conversion = nt.convert(lab, getfixture("lab_tree"), dataset_id=8)
    >>> conversion.folder.name, len(conversion.records)
    ('Dataset008_Lab', 5)
    """
    from nnunet_transfer.conversion.catalogue import get_description
    from nnunet_transfer.conversion.description import DatasetDescription
    from nnunet_transfer.conversion.engine import convert
    from nnunet_transfer.conversion.plan import Options, plan_conversion

    description = dataset if isinstance(dataset, DatasetDescription) else get_description(str(dataset))
    return convert(plan_conversion(description, Path(source), dataset_id, options or Options()))


def add_source(
    location: str | PathLike[str],
    name: str = "",
    *,
    task: str = "",
    domain: str = "",
    provenance: Provenance | None = None,
    reading: Reading | None = None,
    sha256: str = "",
    overwrite: bool = False,
) -> Source:
    """Add a checkpoint to the registry.

    Parameters
    ----------
    location
        Weights file, nnU-Net run or model folder, exported zip, or an address: `https://`, `hf://OWNER/REPOSITORY/FILE`,
        `timm://MODEL`, `torchvision://WEIGHTS`; also a folder of `publish_source`, or `hf://OWNER/REPOSITORY` with it.
    name
        Name in the registry; a published source has one of its own.
    task, domain
        What the network was trained to do (`classification`, `segmentation`, `self_supervised`), on which images; the same.
    provenance
        Licence, citation, training data and channel names; what is left out is read from the file.
    reading
        Which fold and file of a model, a key map, and whether to trust the file.
    sha256
        Checksum, or its first digits, of what an address gives.
    overwrite
        Replace a source of this name.

    Raises
    ------
    TransferError
        If the file can't be read safely, is of no use to an nnU-Net network, or the name is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> checkpoint = getfixture("timm_resnet18d")  # a state dict of timm's resnet18d
    >>> provenance = nt.Provenance(licence="Apache-2.0", trained_on=("ImageNet-1k",))
    >>> source = nt.add_source(
    ...     checkpoint, "imagenet", task="classification", domain="natural", provenance=provenance
    ... )
    >>> source.card.parts, source.card.input_channels, source.card.licence
    ('encoder', 3, 'Apache-2.0')
    """
    from nnunet_transfer import checkpoints
    from nnunet_transfer.sources import load_source

    folder = checkpoints.add_source(
        location,
        name,
        task=task,
        domain=domain,
        provenance=provenance,
        reading=reading,
        sha256=sha256,
        overwrite=overwrite,
    )
    return load_source(folder)


def publish_source(
    name: str,
    folder: str | PathLike[str],
    *,
    licence: str = "",
    licence_file: str | PathLike[str] | None = None,
    leave_out_cases: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a source into a folder for Hugging Face, with a model card; `add_source` reads it back as it was.

    Parameters
    ----------
    name
        Name in the registry.
    folder
        New or empty folder.
    licence, licence_file
        Licence of the weights, where its card states none or another, and a file with its text.
    leave_out_cases
        Leave out the identifiers of training cases and lesion donors.
    overwrite
        Replace what was published into this folder before.

    Raises
    ------
    TransferError
        If no licence is known, the weights were changed, or the folder holds something else.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> folder = nt.publish_source(getfixture("registered_source"), getfixture("tmp_path") / "out", licence="MIT")
    >>> sorted(file.name for file in folder.iterdir())
    ['LICENSE', 'README.md', 'SHA256SUMS', 'source.json', 'weights.safetensors']
    """
    from nnunet_transfer.sources.publishing import publish_source

    return publish_source(
        name,
        Path(folder),
        licence=licence,
        licence_file=Path(licence_file) if licence_file else None,
        leave_out_cases=leave_out_cases,
        overwrite=overwrite,
    )


def load_source(name: str | PathLike[str]) -> Source:
    """Return a source by its name in the registry, or by its folder.

    Raises
    ------
    TransferError
        If there is none, or its card can't be read.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> source = nt.load_source(getfixture("registered_source"))
    >>> source.card.task, source.card.channel_names
    ('segmentation', ('T1',))
    >>> source.verify()  # compares the weights with the checksum in the card
    """
    from nnunet_transfer.sources import load_source

    return load_source(name)


def list_sources() -> list[SourceCard]:
    """Return the cards of all sources in the registry, sorted by name.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> name = getfixture("registered_source")
    >>> [card.name for card in nt.list_sources()]
    ['t1_segmentation']
    """
    from nnunet_transfer.sources import list_sources

    return list_sources()


def plan(
    dataset: str | int,
    *,
    profile: str | None = None,
    source: str | None = None,
    settings: PlanSettings | None = None,
    overwrite: bool = False,
) -> Path:
    """Write nnU-Net plans whose architecture is a profile's or a source's.

    The data set must have nnU-Net's fingerprint (`nnUNetv2_extract_fingerprint`). Preprocess and train as usual with
    the plans' name.

    Parameters
    ----------
    dataset
        Folder name or id of the data set.
    profile
        Architecture by name: `resnet18`, `resnet50`, `resenc_m`, ...
    source
        Source in the registry, or its folder; its architecture is taken unless a profile is given.
    settings
        Configurations, patch and batch size, GPU memory, spacing and more.
    overwrite
        Replace plans of this name.

    Returns
    -------
    Path
        The plans file.

    Raises
    ------
    TransferError
        If the fingerprint is missing or something doesn't fit the network.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> dataset = getfixture("fingerprinted")  # a data set with nnU-Net's fingerprint
    >>> settings = nt.PlanSettings(configurations=("2d",), patch_size=(32, 32), batch_size=2)
    >>> nt.plan(dataset, profile="demo", settings=settings).name
    'nnUNetPlans_demo.json'
    """
    from nnunet_transfer.plans.transfer_plans import PlanSettings, write_transfer_plans

    return write_transfer_plans(
        dataset, profile=profile, source=source, overwrite=overwrite, **vars(settings or PlanSettings())
    )


def transfer_weights(
    network: nn.Module,
    source: Source | str | PathLike[str],
    *,
    settings: TransferSettings | None = None,
    channel_names: Sequence[str] = (),
    encoder_only: bool = False,
) -> TransferReport:
    """Load a source into a network of your own code, in place; the arms do the same before the first epoch.

    Parameters
    ----------
    network
        nnU-Net's `PlainConvUNet` or `ResidualEncoderUNet`, or one of `nnunet_transfer.networks`, on any device.
    source
        The source, its name in the registry, or its folder.
    settings
        Rules for channels, kernels, depth and widths, and the smallest share of the encoder that must fit.
    channel_names
        The network's input channels, to match them with the source's by name.
    encoder_only
        Leave the decoder as it is.

    Returns
    -------
    TransferReport
        What happened to every tensor; `str(report.table())` is readable, `report.write(path)` saves it.

    Raises
    ------
    TransferError
        If too little fits; the network is then unchanged.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> network = getfixture("unet")  # a ResidualEncoderUNet with 5 output channels
    >>> report = nt.transfer_weights(network, getfixture("registered_source"), channel_names=["T1"])
    >>> report.coverage["encoder"]
    1.0
    """
    from nnunet_transfer.adaptation import Target, TransferSettings, transfer_weights
    from nnunet_transfer.sources import Source, load_source

    settings = settings or TransferSettings()
    return transfer_weights(
        network,
        source if isinstance(source, Source) else load_source(source),
        scope="encoder" if encoder_only else "encoder+decoder",
        minimum_encoder=settings.minimum_encoder,
        rules=settings.rules,
        target=Target(channel_names=tuple(channel_names)),
    )


def evaluate(
    references: str | PathLike[str],
    predictions: str | PathLike[str],
    *,
    settings: EvaluateSettings | None = None,
    processes: int = 1,
) -> Evaluation:
    """Score a folder of predicted masks against a folder of references of the same names.

    Parameters
    ----------
    references, predictions
        Folders of masks in one of nnU-Net's formats.
    settings
        Labels, lesion protocols, surface scores and their tolerance in mm, and what a missing case means.
    processes
        Cases scored side by side.

    Returns
    -------
    Evaluation
        `cases`, a DataFrame with one row per case and label, `lesions` with one row per reference lesion, and problems.

    Raises
    ------
    TransferError
        If a case lacks a mask or can't be scored; every such case is named.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> references, predictions = getfixture("mask_folders")  # three cases; each prediction misses a quarter
    >>> scores = nt.evaluate(references, predictions).cases
    >>> scores[["case", "dice"]].round(3).values.tolist()
    [['a', 0.857], ['b', 0.857], ['c', 0.857]]
    """
    from nnunet_transfer.evaluation.folders import evaluate_folders

    return evaluate_folders(references, predictions, settings=settings, processes=processes)


def compare(
    datasets: Sequence[str | int],
    *,
    out: str | PathLike[str],
    arms: Sequence[str] | None = None,
    settings: CompareSettings | None = None,
    processes: int = 1,
) -> Comparison:
    """Compare all arms of one or several targets over cross-validation, subject by subject.

    Parameters
    ----------
    datasets
        Targets, by id or folder name; their trained folds lie in `$nnUNet_results`.
    out
        Folder for the report, its figures and tables.
    arms
        Trainers to compare; default: all.
    settings
        Lesion protocols, the rule for lesion-free references, baseline, bootstrap, region of practical equivalence.
    processes
        Cases scored side by side.

    Returns
    -------
    Comparison
        `table(name)` gives a tidy DataFrame (`summary`, `tests`, `cases`, `folds`, ...), `report` the page that was written.

    Raises
    ------
    TransferError
        If cases, folds, sources or references don't allow a paired comparison.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> dataset, out = getfixture("trained_arms")  # 2 folds of 4 cases, made up
    >>> comparison = nt.compare([dataset], out=out, settings=nt.CompareSettings(draws=200, tables_only=True))
    >>> tests = comparison.table("tests")
    >>> bool((tests["difference"] > 0).any()), sorted(tests["n_subjects"].unique().tolist())
    (True, [8])
    """
    from nnunet_transfer.comparison import compare

    return compare(datasets, out=out, arms=arms, settings=settings, processes=processes)


def synthesize(settings: SynthesisSettings, *, processes: int = 1) -> Path:
    """Make an nnU-Net data set of T1-like images from label maps, with or without pasted lesions, to pre-train on.

    Needs the extra `synthesize` (`pip install "nnunet_transfer[synthesize]"`).

    Returns
    -------
    Path
        The data set's folder in `$nnUNet_raw`.

    Raises
    ------
    TransferError
        If label maps, lesion masks or settings can't be used.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.synthesize(nt.SynthesisSettings(labels="label_maps", dataset_id=81))  # doctest: +SKIP
    PosixPath('.../Dataset081_Synthetic')
    """
    from nnunet_transfer.synthetic.settings import plan_synthesis
    from nnunet_transfer.synthetic.synthesis import synthesize

    return synthesize(plan_synthesis(settings), processes=processes)


def rank_sources(
    dataset: str,
    configuration: str,
    plans: str,
    names: Sequence[str] = (),
    *,
    settings: RankSettings | None = None,
    device: str = "cpu",
) -> list[RankedSource]:
    """Score sources for a target before any fine-tuning, on its training cases alone.

    Parameters
    ----------
    dataset, configuration, plans
        The target, preprocessed.
    names
        Sources in the registry; default: all.
    settings
        Fold, number of cases and patches, seed, and scores reached on other targets.
    device
        Where features are computed.

    Returns
    -------
    list of RankedSource
        The best fitted-head Dice first; a random network is among them as the zero line.

    Raises
    ------
    TransferError
        If the target or a source that is named can't be read.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.rank_sources("Dataset021_ATLAS", "2d", "nnUNetPlans_resnet18")  # doctest: +SKIP
    [RankedSource(...), ...]
    """
    from nnunet_transfer.ranking.rank import rank_sources

    return rank_sources(dataset, configuration, plans, names, settings=settings, device=device)


def run_study(
    file: str | PathLike[str], *, jobs: int | None = None, profile: str | PathLike[str] | None = None
) -> Path:
    """Run a study, or go on with it; what is finished is not done again.

    Parameters
    ----------
    file
        The study's file, see `nnunet_transfer study init`.
    jobs
        Steps at a time on this machine, or jobs at a time in a cluster; default: one per GPU, or per core.
    profile
        Folder with Snakemake's `config.yaml`, for instance for SLURM.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    TransferError
        If the file is wrong or a step failed.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.run_study("study.yaml")  # doctest: +SKIP
    PosixPath('study/report/report.html')
    """
    from nnunet_transfer.study import read_study
    from nnunet_transfer.study.checked_run import run_checked

    return run_checked(read_study(Path(file)), jobs=jobs, profile=Path(profile) if profile else None)


def register_arm(name: str, *, source: str) -> None:
    """Add an arm for this process: a trainer's name and the registry name of the source it starts from.

    `nnUNetv2_train` is a process of its own: for that, an installed package adds the arm by an entry point
    (`docs/extending.md`).

    Raises
    ------
    TransferError
        If the name can't be a trainer's or is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_arm("nnUNetTrainerCTSegmentation", source="ct_segmentation")
    """
    from nnunet_transfer.naming import ARMS

    ARMS.register(name, source)


def register_recipe(recipe: Recipe) -> None:
    """Add a recipe for this process; its name becomes a suffix of every arm.

    Raises
    ------
    TransferError
        If the name can't be a suffix or is taken, or the phases' shares don't add up to 1.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_recipe(nt.Recipe("plain", "nnU-Net's decay only", (nt.Phase("all", 1.0),)))
    """
    from nnunet_transfer.recipes import RECIPES

    RECIPES.register(recipe.name, recipe)


def register_protocol(protocol: LesionProtocol) -> None:
    """Add a lesion protocol for this process.

    Raises
    ------
    TransferError
        If the name is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_protocol(nt.LesionProtocol("lab26", "our laboratory's", 26, min_volume_mm3=5.0))
    """
    from nnunet_transfer.evaluation.protocols import PRESETS

    PRESETS.register(protocol.name, protocol)


def register_format(checkpoint_format: Format) -> None:
    """Add a checkpoint format for this process; it is asked before the package's own.

    Raises
    ------
    TransferError
        If the name is taken.
    """
    from nnunet_transfer.checkpoints.formats import FORMATS

    FORMATS.register(checkpoint_format.name, checkpoint_format)


def register_dataset(description: DatasetDescription) -> None:
    """Add a data set for this process, to be converted by its name.

    Raises
    ------
    TransferError
        If the name is taken.
    """
    from nnunet_transfer.conversion.catalogue import ADDED, all_descriptions
    from nnunet_transfer.errors import SettingsError

    if all_descriptions().get(description.name, description) != description:
        raise SettingsError(f"datasets: there is another entry {description.name}; choose another name")
    ADDED.register(description.name, description)
