"""A run as Arrow tables: every image of every cell, and a line for each cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bench.core.attack import target_text
from bench.core.result import CellInfo, Row
from bench.metrics import clean_accuracy, robust_accuracy
from bench.published import load_table, table_ids
from bench.report.run_view import Outcome, RunView
from bench.store.rows import ROW_SCHEMA

_WORD = pa.dictionary(pa.int32(), pa.string())
"""Texts that repeat line after line are kept once."""

_OF_CELL = pa.schema(
    [
        pa.field("model", _WORD),
        pa.field("attack", _WORD),
        pa.field("cell_id", _WORD),
        pa.field("complete", pa.bool_()),
        pa.field("checkpoint", _WORD),
        pa.field("dataset", _WORD),
        pa.field("norm", _WORD),
        pa.field("eps", pa.float64()),
        pa.field("eps_space", _WORD),
        pa.field("protocol", _WORD),
    ]
)
ROWS = pa.schema([*_OF_CELL, *ROW_SCHEMA, pa.field("target", pa.int32())])
"""What is said of the cell in each line, then the columns of ``rows.parquet``. ``target`` is null
but under targeted attacks, whose ``robust`` says that an image was not brought to it."""

CELLS = pa.schema(
    [
        pa.field("model", pa.string()),
        pa.field("attack", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("accuracy", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("method", pa.string()),
        pa.field("clean_accuracy", pa.float64()),
        pa.field("alarms", pa.list_(pa.string())),
        pa.field("seconds", pa.float64()),
        pa.field("forwards", pa.float64()),
        pa.field("backwards", pa.float64()),
        pa.field("cell_id", pa.string()),
        pa.field("checkpoint", pa.string()),
        pa.field("weights_sha256", pa.string()),
        pa.field("arch", pa.string()),
        pa.field("model_norm", pa.string()),
        pa.field("training", pa.string()),
        pa.field("stats", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("split", pa.string()),
        pa.field("data_hash", pa.string()),
        pa.field("norm", pa.string()),
        pa.field("eps", pa.float64()),
        pa.field("eps_space", pa.string()),
        pa.field("attack_name", pa.string()),
        pa.field("attack_version", pa.int64()),
        pa.field("attack_params", pa.string()),
        pa.field("attack_kind", pa.string()),
        pa.field("protocol", pa.string()),
        pa.field("surrogate", pa.string()),
        pa.field("gradient_model", pa.string()),
        pa.field("loss", pa.string()),
        pa.field("y_target", pa.string()),
        pa.field("adversary", pa.string()),
        pa.field("eot", pa.string()),
        pa.field("eot_iter", pa.int64()),
        pa.field("batch_size", pa.int64()),
        pa.field("n_draws", pa.int64()),
        pa.field("search", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("cluster", pa.string()),
        pa.field("precision", pa.string()),
        pa.field("machine", pa.string()),
        pa.field("date", pa.string()),
    ]
)
"""Labels and result first, then what identifies the cell; ``forwards`` and ``backwards`` are passes
per image, accuracies are in [0, 1]; where ``y_target`` says that the attack is targeted,
``accuracy`` is the share of images that were not brought to their target. What is not known is
null."""

PUBLISHED = pa.schema(
    [
        pa.field("table_id", pa.string()),
        pa.field("row", pa.string()),
        pa.field("column", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("arch", pa.string()),
        pa.field("norm", pa.string()),
        pa.field("eps", pa.float64()),
        pa.field("protocol", pa.string()),
        pa.field("attack_name", pa.string()),
        pa.field("n", pa.int64()),
    ]
)
"""One line a number, in the table's own unit; ``row`` holds the row's keys as JSON."""


def rows_table(view: RunView) -> pa.Table:
    """Returns the rows of every stored cell, of incomplete ones too, in the suite's order.

    A cell that stands at several places of the suite is there as often, under each pair of labels.
    """
    parts = [
        _rows_of(model, attack, outcome)
        for model, attack, outcome in view.outcomes()
        if outcome.info is not None and outcome.rows
    ]
    return pa.concat_tables([ROWS.empty_table(), *parts]).unify_dictionaries()


def cells_table(view: RunView) -> pa.Table:
    """Returns a line for each planned cell; only those of status ``ok`` have an accuracy."""
    lines = []
    for i, model in enumerate(view.models):
        facts = view.facts(i)
        known: dict[str, Any] = {}
        if facts is not None:
            known = {"arch": facts.arch, "model_norm": facts.norm, "training": facts.training}
        for j, attack in enumerate(view.attacks):
            outcome = view.outcome(i, j)
            if outcome.status != "left_out":
                line = {"model": model.label, "attack": attack.label, **known}
                lines.append({**line, **_cell_of(outcome)})
    return pa.Table.from_pylist(lines, schema=CELLS)


def published_table() -> pa.Table:
    """Returns every number of every published table, see ``bench.published``."""
    lines = []
    for table_id in table_ids():
        table = load_table(table_id)
        for (keys, values), settings in zip(table.rows, table.settings, strict=True):
            for column, value in values.items():
                setting = settings[column]
                line = {
                    "table_id": table_id,
                    "row": json.dumps(dict(keys), ensure_ascii=False),
                    "column": column,
                    "value": value,
                    "unit": table.unit,
                    "dataset": setting.dataset or None,
                    "arch": setting.arch or None,
                    "norm": setting.norm,
                    "eps": setting.eps,
                    "protocol": setting.protocol or None,
                    "attack_name": setting.attack.attack if setting.attack else None,
                    "n": setting.n_images,
                }
                lines.append(line)
    return pa.Table.from_pylist(lines, schema=PUBLISHED)


def _rows_of(model: str, attack: str, outcome: Outcome) -> pa.Table:
    assert outcome.info is not None
    info, n = outcome.info, len(outcome.rows)
    spec = info.spec
    values = {
        "model": model,
        "attack": attack,
        "cell_id": info.cell_id,
        "complete": info.complete,
        "checkpoint": spec.checkpoint,
        "dataset": spec.data.name,
        "norm": spec.threat_model.norm,
        "eps": spec.threat_model.eps,
        "eps_space": spec.threat_model.eps_space,
        "protocol": spec.protocol,
    }
    same = [pa.array([values[field.name]] * n).cast(field.type) for field in _OF_CELL]
    own = [
        pa.array([getattr(row, field.name) for row in outcome.rows], field.type)
        for field in (*ROW_SCHEMA, ROWS.field("target"))
    ]
    return pa.Table.from_arrays([*same, *own], schema=ROWS)


def _cell_of(outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {"status": outcome.status, "reason": outcome.reason or None}
    if outcome.info is None:
        return line
    line |= _identity(outcome.info)
    if outcome.status == "ok":
        line |= _result(outcome.info, outcome.rows)
    return line


def _result(info: CellInfo, rows: Sequence[Row]) -> dict[str, Any]:
    found = robust_accuracy(rows, info.cluster)
    return {
        "accuracy": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "method": found.method,
        "clean_accuracy": clean_accuracy(rows, info.cluster).value,
        "forwards": _mean([row.forwards for row in rows]),
        "backwards": _mean([row.backwards for row in rows]),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _identity(info: CellInfo) -> dict[str, Any]:
    """Returns what decides a cell's rows, and how it was run."""
    spec = info.spec
    surrogate, aids = spec.surrogate, spec.adaptive
    stand_in, loss = (aids.gradient_model, aids.loss) if aids else (None, None)
    return {
        "alarms": list(info.alarms),
        "seconds": info.seconds,
        "cell_id": info.cell_id,
        "checkpoint": spec.checkpoint,
        "weights_sha256": spec.sha256,
        "stats": spec.stats,
        "dataset": spec.data.name,
        "split": spec.data.split,
        "data_hash": spec.data_hash,
        "norm": spec.threat_model.norm,
        "eps": spec.threat_model.eps,
        "eps_space": spec.threat_model.eps_space,
        "attack_name": spec.attack,
        "attack_version": spec.attack_version,
        "attack_params": json.dumps(spec.attack_params, ensure_ascii=False, sort_keys=True),
        "attack_kind": info.attack_kind,
        "protocol": spec.protocol,
        "surrogate": surrogate.checkpoint if surrogate else None,
        "gradient_model": stand_in.name if stand_in else None,
        "loss": loss.name if loss else None,
        "y_target": None if spec.y_target is None else target_text(spec.y_target),
        "adversary": spec.adversary,
        "eot": spec.eot,
        "eot_iter": spec.eot_iter,
        "batch_size": spec.batch_size,
        "n_draws": spec.n_draws,
        "search": spec.search,
        "seed": spec.seed,
        "cluster": info.cluster,
        "precision": info.precision,
        "machine": info.machine,
        "date": info.date,
    }
