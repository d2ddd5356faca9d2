"""Suites: a YAML file, its names resolved once and checked in full, becomes a plan of cells."""

from bench.suite.analyses import PlannedAnalysis
from bench.suite.entry import AnalysisEntry, PanelEntry, ReportEntry
from bench.suite.find import find_suite, list_suites
from bench.suite.load import load_suite
from bench.suite.plan import Plan, PlannedCell, make_plan
from bench.suite.resolve import DatasetShape, Lookup, ResolvedSuite, SliceFacts
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec, SurrogateEntry

__all__ = [
    "AnalysisEntry",
    "AttackEntry",
    "DatasetShape",
    "Lookup",
    "ModelEntry",
    "PanelEntry",
    "Plan",
    "PlannedAnalysis",
    "PlannedCell",
    "ReportEntry",
    "ResolvedSuite",
    "SliceFacts",
    "SuiteSpec",
    "SurrogateEntry",
    "find_suite",
    "list_suites",
    "load_suite",
    "make_plan",
]
