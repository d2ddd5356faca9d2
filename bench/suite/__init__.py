"""Suites: a YAML file, checked in full, becomes a plan of cells."""

from bench.suite.catalog import (
    AttackInfo,
    AttackKind,
    Catalog,
    CheckpointInfo,
    DatasetInfo,
    ParamsError,
    PublishedTable,
)
from bench.suite.find import find_suite, list_suites
from bench.suite.load import load_suite
from bench.suite.plan import Plan, PlannedCell, make_plan
from bench.suite.spec import AttackEntry, ModelEntry, ReportEntry, SuiteSpec, SurrogateEntry

__all__ = [
    "AttackEntry",
    "AttackInfo",
    "AttackKind",
    "Catalog",
    "CheckpointInfo",
    "DatasetInfo",
    "ModelEntry",
    "ParamsError",
    "Plan",
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
