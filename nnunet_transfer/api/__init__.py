"""The public functions and classes, available as `import nnunet_transfer as nt`.

Each function imports its dependencies when it is called. In the examples, which run as tests, `getfixture(...)` stands for
small data that the tests make: put your own path or name there.

Examples
--------
>>> import nnunet_transfer as nt
>>> nt.list_sources()  # doctest: +SKIP
[...]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nnunet_transfer.api.comparison import compare, evaluate
from nnunet_transfer.api.data import convert, convert_planned, install_splits, plan_conversion, pool, synthesize
from nnunet_transfer.api.models import export_stock, plan, transfer_weights
from nnunet_transfer.api.registration import (
    register_arm,
    register_dataset,
    register_format,
    register_protocol,
    register_recipe,
)
from nnunet_transfer.api.sources import (
    add_source,
    fetch_source,
    inspect_source,
    list_sources,
    load_source,
    publish_source,
    rank_sources,
)
from nnunet_transfer.api.studies import check_study, init_study, report_study, run_demo, run_study, study_status

if TYPE_CHECKING:
    from nnunet_transfer.adaptation import TransferReport as TransferReport
    from nnunet_transfer.adaptation import TransferSettings as TransferSettings
    from nnunet_transfer.checkpoints import Provenance as Provenance
    from nnunet_transfer.checkpoints import Reading as Reading
    from nnunet_transfer.checkpoints.converted import Format as Format
    from nnunet_transfer.comparison.pipeline import Comparison as Comparison
    from nnunet_transfer.comparison.report import ReportText as ReportText
    from nnunet_transfer.comparison.settings import CompareSettings as CompareSettings
    from nnunet_transfer.conversion.description import Case as Case
    from nnunet_transfer.conversion.description import DatasetDescription as DatasetDescription
    from nnunet_transfer.conversion.description import LabelRule as LabelRule
    from nnunet_transfer.conversion.description import Layout as Layout
    from nnunet_transfer.conversion.engine import Outcome as Conversion
    from nnunet_transfer.conversion.plan import Options as ConversionOptions
    from nnunet_transfer.conversion.plan import Plan as ConversionPlan
    from nnunet_transfer.conversion.pool import Pool as Pool
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
    from nnunet_transfer.sharing import StockModel as StockModel
    from nnunet_transfer.sources import Source as Source
    from nnunet_transfer.sources import SourceCard as SourceCard
    from nnunet_transfer.study import Study as Study
    from nnunet_transfer.study.status import JobState as StudyStep
    from nnunet_transfer.study.summary import StudyCheck as StudyCheck
    from nnunet_transfer.synthetic.settings import Settings as SynthesisSettings

#: class that the functions take or return -> the module that defines it, and its name in that module
CLASSES: dict[str, tuple[str, str]] = {
    "Case": ("conversion.description", "Case"),
    "CompareSettings": ("comparison.settings", "CompareSettings"),
    "Comparison": ("comparison.pipeline", "Comparison"),
    "Conversion": ("conversion.engine", "Outcome"),
    "ConversionOptions": ("conversion.plan", "Options"),
    "ConversionPlan": ("conversion.plan", "Plan"),
    "DatasetDescription": ("conversion.description", "DatasetDescription"),
    "EvaluateSettings": ("evaluation.folders", "EvaluateSettings"),
    "Evaluation": ("evaluation.folders", "Evaluation"),
    "Format": ("checkpoints.converted", "Format"),
    "LabelRule": ("conversion.description", "LabelRule"),
    "Layout": ("conversion.description", "Layout"),
    "LesionProtocol": ("evaluation.protocols", "LesionProtocol"),
    "Phase": ("recipes", "Phase"),
    "PlanSettings": ("plans.transfer_plans", "PlanSettings"),
    "Pool": ("conversion.pool", "Pool"),
    "Provenance": ("checkpoints", "Provenance"),
    "RankSettings": ("ranking.rank", "RankSettings"),
    "RankedSource": ("ranking.rank", "RankedSource"),
    "Reading": ("checkpoints", "Reading"),
    "Recipe": ("recipes", "Recipe"),
    "ReportText": ("comparison.report", "ReportText"),
    "ScoringSettings": ("evaluation.scores", "ScoringSettings"),
    "Source": ("sources", "Source"),
    "SourceCard": ("sources", "SourceCard"),
    "StockModel": ("sharing", "StockModel"),
    "Study": ("study", "Study"),
    "StudyCheck": ("study.summary", "StudyCheck"),
    "StudyStep": ("study.status", "JobState"),
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
    "ConversionPlan",
    "DatasetDescription",
    "EvaluateSettings",
    "Evaluation",
    "Format",
    "LabelRule",
    "Layout",
    "LesionProtocol",
    "Phase",
    "PlanSettings",
    "Pool",
    "Provenance",
    "RankSettings",
    "RankedSource",
    "Reading",
    "Recipe",
    "ReportText",
    "ScoringSettings",
    "Source",
    "SourceCard",
    "StockModel",
    "Study",
    "StudyCheck",
    "StudyStep",
    "SynthesisSettings",
    "TransferError",
    "TransferReport",
    "TransferSettings",
    "add_source",
    "check_study",
    "compare",
    "convert",
    "convert_planned",
    "evaluate",
    "export_stock",
    "fetch_source",
    "init_study",
    "inspect_source",
    "install_splits",
    "list_sources",
    "load_source",
    "plan",
    "plan_conversion",
    "pool",
    "publish_source",
    "rank_sources",
    "register_arm",
    "register_dataset",
    "register_format",
    "register_protocol",
    "register_recipe",
    "report_study",
    "run_demo",
    "run_study",
    "study_status",
    "synthesize",
    "transfer_weights",
]


def __getattr__(name: str) -> Any:
    if name not in CLASSES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    module, defined_as = CLASSES[name]
    return getattr(importlib.import_module(f"nnunet_transfer.{module}"), defined_as)
