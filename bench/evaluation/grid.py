"""Several results of one call: models by threat models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from bench.core.errors import UserError, did_you_mean
from bench.core.threat import ThreatModel
from bench.evaluation.picture import draw_bars, draw_curves
from bench.evaluation.result import CLEAN, WORST_CASE, EvaluationResult
from bench.evaluation.saved import latex_of, read_saved, save_results
from bench.metrics import Estimate
from bench.untrusted.escape import markdown, one_line

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Evaluations:
    """The results of several models, or of several threat models, or of both.

    ``found["bn"]`` is the result of a model, ``found["linf 2/255"]`` that of a threat model, and
    ``found["bn", "linf 2/255"]`` that of both where there are several of each.

    Attributes:
        results: By label of the model, then by threat model, as ``describe_threat`` of the result
            names it: ``"linf 8/255"``, of a union ``"linf 8/255 and l2 0.5"``.
    """

    results: Mapping[str, Mapping[str, EvaluationResult]]

    @classmethod
    def of(cls, found: Mapping[str, Sequence[EvaluationResult]]) -> Evaluations:
        """Returns the results of each model, by its label."""
        return cls(
            {label: {one.describe_threat(): one for one in some} for label, some in found.items()}
        )

    @property
    def models(self) -> tuple[str, ...]:
        """Labels of the models."""
        return tuple(self.results)

    @property
    def threat_models(self) -> tuple[ThreatModel, ...]:
        """The threat models; of a union, all its balls."""
        first = next(iter(self.results.values()))
        return tuple(ball for one in first.values() for ball in one.threat_models)

    def __getitem__(self, key: str | tuple[str, str]) -> EvaluationResult:
        """Returns a result; raises ``UserError`` for a key that names none, or several."""
        names = list(next(iter(self.results.values())))
        if isinstance(key, str):
            several = "give both, as ('{}', '{}')"
            if key in self.results:
                if len(names) > 1:
                    raise UserError(f"'{key}': {several.format(key, names[0])}")
                return self.results[key][names[0]]
            ball = key.replace(":", " ")
            if ball in names and len(self.results) == 1:
                return next(iter(self.results.values()))[ball]
            if ball in names:
                raise UserError(f"'{key}': {several.format(self.models[0], key)}")
            raise UserError(f"no result of '{key}'{did_you_mean(key, [*self.results, *names])}")
        model, ball = key[0], key[1].replace(":", " ")
        if model not in self.results:
            raise UserError(f"no model is labelled '{model}'{did_you_mean(model, self.results)}")
        if ball not in names:
            raise UserError(f"no threat model is '{key[1]}'{did_you_mean(ball, names)}")
        return self.results[model][ball]

    def __iter__(self) -> Iterator[EvaluationResult]:
        """Yields the results, model by model."""
        return (one for some in self.results.values() for one in some.values())

    def __len__(self) -> int:
        """Returns the number of results."""
        return sum(map(len, self.results.values()))

    def table(self) -> pd.DataFrame:
        """Returns one line for each number, indexed by ``model``, ``threat_model`` and ``attack``.

        The further columns are those of ``EvaluationResult.table``.
        """
        import pandas as pd

        parts = [one.table().reset_index().assign(model=one.model) for one in self]
        balls = [one.describe_threat() for one in self]
        parts = [part.assign(threat_model=ball) for part, ball in zip(parts, balls, strict=True)]
        return pd.concat(parts).set_index(["model", "threat_model", "attack"])

    def rows(self) -> pd.DataFrame:
        """Returns one line for each image under each attack.

        Columns: ``model``, ``threat_model``, ``attack``, then the fields of ``Row``.
        """
        import pandas as pd

        parts = []
        for one in self:
            rows = one.rows()
            rows.insert(0, "threat_model", one.describe_threat())
            rows.insert(0, "model", one.model)
            parts.append(rows)
        return pd.concat(parts, ignore_index=True)

    def save(self, folder: str | Path) -> None:
        """Writes the results into a folder, as ``evaluate(out=FOLDER)`` keeps them.

        Raises:
            UserError: When the folder cannot be written or holds the run of a suite, or the threat
                models are of several norms.
        """
        save_results(list(self), folder, several=True)

    def to_latex(self, *, intervals: bool = False, floats: bool = True) -> str:
        """Returns models by attacks for a paper; arguments as for ``EvaluationResult.to_latex``.

        Raises:
            UserError: When the threat models are of several norms.
        """
        return latex_of(list(self), intervals=intervals, floats=floats)

    def to_markdown(self) -> str:
        """Returns the table and its notes as GitHub-flavoured Markdown."""
        return self._repr_markdown_()

    def plot(self, ax: Any = None) -> Any:
        """Draws worst cases against eps, or for one threat model all accuracies of each model.

        Args:
            ax: Axes of matplotlib to draw on; ``None`` for a figure of its own.

        Returns:
            The axes.

        Raises:
            UserError: When the threat models are of several norms.
        """
        (first, *others) = next(iter(self.results.values())).values()
        if not others:
            title = f"threat model {first.describe_threat()}"
            return draw_bars({one.model: one.numbers() for one in self}, title, ax)
        norms = {ball.norm for ball in self.threat_models}
        if len(norms) > 1:
            raise UserError(f"eps of {' and '.join(sorted(norms))} have no common axis")
        curves: dict[str, list[tuple[float, Estimate]]] = {}
        for one in self:
            numbers = dict(one.numbers())
            points = curves.setdefault(one.model, [])
            if not points:
                points.append((0.0, numbers.get(CLEAN) or one.clean_accuracy()))
            if WORST_CASE in numbers:
                points.append((one.threat_model.eps, numbers[WORST_CASE]))
        ordered = {label: sorted(points, key=lambda p: p[0]) for label, points in curves.items()}
        return draw_curves(ordered, norms.pop(), ax)

    def __repr__(self) -> str:
        grid = [[one_line(text) for text in line] for line in self._grid()]
        text = tabulate(grid[1:], grid[0], "simple", disable_numparse=True)
        notes = "\n".join(one_line(note) for note in self._notes())
        return "\n\n".join(filter(None, ("accuracy in %, with 95 % interval", text, notes)))

    def _repr_markdown_(self) -> str:
        """Returns the table as notebooks show it."""
        grid = [[markdown(text) for text in line] for line in self._grid()]
        align = ("left", "left", *("right" for _ in grid[0][2:]))
        text = tabulate(grid[1:], grid[0], "pipe", disable_numparse=True, colalign=align)
        notes = "\n".join(f"- {markdown(note)}" for note in self._notes())
        return "\n\n".join(filter(None, ("accuracy in %, with 95 % interval", text, notes)))

    def _grid(self) -> Iterator[list[str]]:
        lines = [one.shown() for one in self]
        columns = list(dict.fromkeys(name for line in lines for name in line))
        if WORST_CASE in columns:
            columns = [*(name for name in columns if name != WORST_CASE), WORST_CASE]
        yield ["model", "threat model", *columns]
        for one, line in zip(self, lines, strict=True):
            yield [one.model, one.describe_threat(), *(line.get(n, "") for n in columns)]

    def _notes(self) -> Iterator[str]:
        """Yields the notes of all results, each once, with those that it is about if not all."""
        about: dict[str, list[str]] = {}
        for one in self:
            names = [one.model] * (len(self.models) > 1)
            names += [one.describe_threat()] * (len(self.results[one.model]) > 1)
            for note in one.remarks():
                about.setdefault(note, []).append(", ".join(names))
        for note, places in about.items():
            yield note if len(places) == len(self) else f"{'; '.join(places)}: {note}"


def load_result(folder: str | Path) -> EvaluationResult | Evaluations:
    """Reads what ``evaluate(out=FOLDER)`` or ``save(FOLDER)`` has written.

    Raises:
        UserError: When the folder holds no result, or files of it are damaged.
    """
    store, saved = read_saved(folder)
    results = [EvaluationResult.of_saved(store, one) for one in saved.results]
    if not saved.several:
        return results[0]
    found: dict[str, list[EvaluationResult]] = {}
    for one in results:
        found.setdefault(one.model, []).append(one)
    return Evaluations.of(found)
