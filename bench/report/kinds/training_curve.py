"""Loss and accuracy of each training epoch of a run's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.core.checkpoint import Epoch
from bench.metrics import percent
from bench.report.figure import Curves, Figure, Maybe, Series
from bench.report.run_view import RunView
from bench.report.table import Cell, Column, Footnotes, Report, Section, Table, TableRow
from bench.report.text import model_section, title
from bench.suite.entry import ReportEntry

Value = Callable[[Epoch], float | None]

TEST = "test accuracy (%)"
COLUMNS: Mapping[str, Value] = {
    "training loss": lambda epoch: epoch.loss,
    "training accuracy (%)": lambda epoch: epoch.accuracy,
    TEST: lambda epoch: epoch.test_accuracy,
}


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a panel for each quantity, a line for each checkpoint, and a row for each epoch.

    A checkpoint that several models share is drawn once, under the label of the first.
    """
    del entry
    footnotes = Footnotes()
    histories: dict[str, tuple[Epoch, ...]] = {}
    without: list[str] = []
    seen: set[str] = set()
    for i, model in enumerate(view.models):
        if model.checkpoint in seen:
            continue
        seen.add(model.checkpoint)
        facts = view.facts(i)
        if facts is not None and facts.history:
            histories[model.label] = facts.history
        else:
            without.append(model.label)
    rows = tuple(
        TableRow((label, str(epoch.epoch)), _cells(epoch), starts_group=not position)
        for label, history in histories.items()
        for position, epoch in enumerate(history)
    )
    columns = tuple(Column(name) for name in COLUMNS)
    panels = tuple(_panel(name, value, histories) for name, value in COLUMNS.items())
    figures = (Figure("", _caption(histories), panels),) if histories else ()
    return Report(
        title=title(view),
        head=(*_description(view), *_absent(without)),
        tables=(Table("Loss and accuracy of each epoch", ("model", "epoch"), columns, rows),),
        footnotes=footnotes.listed(),
        sections=(model_section(view), _reading()),
        figures=figures,
        quantity="quantity",
    )


def _cells(epoch: Epoch) -> tuple[Cell, ...]:
    cells = []
    for name, value in COLUMNS.items():
        found = value(epoch)
        if found is None:
            cells.append(Cell(("—",), status="missing", reason="the training did not score it"))
        elif "accuracy" in name:
            cells.append(Cell((percent(found),), value=found))
        else:
            cells.append(Cell((f"{found:.3f}",), value=found))
    return tuple(cells)


def _panel(name: str, value: Value, histories: Mapping[str, tuple[Epoch, ...]]) -> Curves:
    percent = 100.0 if "accuracy" in name else 1.0
    series = []
    for label, history in histories.items():
        x = tuple(float(epoch.epoch) for epoch in history)
        found = [value(epoch) for epoch in history]
        y: Maybe = tuple(None if one is None else percent * one for one in found)
        if any(one is not None for one in y):
            series.append(Series(label, x, y))
    return Curves(title="", x_label="epoch", y_label=name, series=tuple(series))


def _description(view: RunView) -> tuple[str, ...]:
    text = " ".join(view.suite.description.split())
    return (text,) if text else ()


def _absent(labels: list[str]) -> tuple[str, ...]:
    if not labels:
        return ()
    return (
        f"Without a record of their training: {', '.join(labels)}. A training writes one beside "
        "its checkpoint (training.csv); run the suite again to note it in the store.",
    )


def _caption(histories: Mapping[str, tuple[Epoch, ...]]) -> str:
    lengths = sorted({len(history) for history in histories.values()})
    epochs = " to ".join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))
    return (
        f"Training loss, training accuracy and accuracy on up to 1,024 clean test images after "
        f"each of {epochs} epochs, of one training each, without intervals."
    )


def _reading() -> Section:
    items = (
        (
            "training loss, training accuracy",
            "on what the epoch trained on (perturbed images in adversarial training), averaged "
            "while the weights moved",
        ),
        (
            TEST,
            "after the epoch, on up to 1,024 clean test images. It is the training's own look at "
            "itself, in fast arithmetic; the leaderboard scores the finished checkpoint exactly",
        ),
        ("one training", "each line is a single training of one seed: lines may cross by chance"),
    )
    return Section("How to read this", items)
