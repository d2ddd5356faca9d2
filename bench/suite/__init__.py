"""Suites: a YAML file, checked in full, becomes a plan of cells."""

from bench.suite.catalog import AnalysisKind, Catalog, CheckpointInfo, DatasetInfo, PublishedTable
from bench.suite.entry import AnalysisEntry, PanelEntry, PlannedAnalysis, ReportEntry
from bench.suite.find import find_suite, list_suites
from bench.suite.load import load_suite
from bench.suite.plan import Plan, PlannedCell, make_plan
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec, SurrogateEntry

__all__ = [
    "AnalysisEntry",
    "AnalysisKind",
    "AttackEntry",
    "Catalog",
    "CheckpointInfo",
    "DatasetInfo",
    "ModelEntry",
    "PanelEntry",
    "Plan",
    "PlannedAnalysis",
    "PlannedCell",
    "PublishedTable",
    "ReportEntry",
    "SuiteSpec",
    "SurrogateEntry",
    "find_suite",
    "list_suites",
    "load_suite",
    "make_plan",
]
