"""``rbench list``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.core.base import Spec
from bench.core.errors import UserError, did_you_mean
from bench.core.spec_file import read_yaml
from bench.run.paths import checkpoints_folder, suite_folders
from bench.suite import list_suites

NORMS = {
    "none": "no normalization, a learned shift only",
    "fixup": "Fixup initialization with scalar scales and biases",
    "bn": "batch normalization; stats: population | batch",
    "bgn": "batch group normalization; groups | group_size; stats: population | batch",
    "gn": "group normalization; groups | group_size",
    "in": "instance normalization",
    "ln": "layer normalization",
    "rn": "RobustNorm; power; stats: batch | tracked-mean | population",
    "rna": "Random Normalization Aggregation; pool, scope: layer | network, per: batch | sample",
}


def list_command(console: Console, what: str, checkpoints: Path | None) -> None:
    """Prints one of the listings.

    Raises:
        UserError: When there is no such listing.
    """
    listings = {
        "analyses": _analyses,
        "attacks": _attacks,
        "norms": lambda: _table(["norm", "what it is"], [list(item) for item in NORMS.items()]),
        "models": _models,
        "datasets": _datasets,
        "checkpoints": lambda: _checkpoints(checkpoints_folder(checkpoints)),
        "recipes": lambda: _recipes(checkpoints_folder(checkpoints)),
        "suites": _suites,
    }
    if what not in listings:
        raise UserError(f"nothing to list under '{what}'{did_you_mean(what, listings)}")
    console.print(listings[what]())


def _recipes(folder: Path) -> Table:
    from bench.train.book import list_recipes
    from bench.zoo import list_checkpoints

    there = set(list_checkpoints(folder))
    return _table(
        ["recipe", "scale", "data", "network", "norm", "training", "epochs", "trained"],
        [
            [
                recipe.name,
                recipe.scale,
                recipe.dataset,
                recipe.model.arch,
                recipe.model.norm.label(),
                recipe.kind,
                str(recipe.epochs),
                "yes" if recipe.name in there else "",
            ]
            for recipe in list_recipes(folder / "recipes")
        ],
    )


def _table(columns: list[str], rows: list[list[str]]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def _attacks() -> RenderableType:
    from bench.attacks import ATTACKS
    from bench.attacks.registry import LIBRARIES, library_attacks

    found = {name: ATTACKS.get(name) for name in ATTACKS}
    problems = []
    for prefix in LIBRARIES:
        try:
            found |= {a.name: a for a in library_attacks(prefix) if a.name not in found}
        except UserError as error:
            problems.append(str(error))
    rows = [
        [name, attack.kind, "/".join(attack.norms), _params(attack.params), attack.summary]
        for name, attack in found.items()
    ]
    table = _table(["attack", "kind", "norms", "parameters", "what it is"], rows)
    return Group(table, *(Text(problem) for problem in problems))


def _params(params: type[Spec]) -> str:
    """Returns parameters with their defaults; one that has none stands alone."""
    fields = params.model_fields.items()
    return ", ".join(k if f.is_required() else f"{k}={f.default}" for k, f in fields)


def _analyses() -> Table:
    from bench.analysis import ANALYSES

    rows = []
    for name in ANALYSES:
        analysis = ANALYSES.get(name)
        rows.append([name, _params(analysis.params), analysis.summary])
    return _table(["analysis", "parameters", "what it is"], rows)


def _models() -> Table:
    from bench.core.model_spec import ARCHITECTURES

    return _table(["architecture"], [[name] for name in ARCHITECTURES])


def _datasets() -> Table:
    from bench.data import DATASETS

    entries = [DATASETS.get(name) for name in DATASETS]
    rows = [[d.name, str(d.classes), f"{d.channels} x {d.size} x {d.size}"] for d in entries]
    return _table(["data set", "classes", "image"], rows)


def _checkpoints(folder: Path) -> Table:
    from bench.zoo import list_checkpoints, read_card

    rows = []
    for name in list_checkpoints(folder):
        card = read_card(folder / name / "card.yaml")
        clean = f"{card.clean_accuracy.value:.2%}"
        rows.append([name, card.model.norm.label(), card.training, card.dataset, clean])
    return _table(["checkpoint", "norm", "training", "data set", "clean accuracy"], rows)


def _suites() -> Table:
    rows = []
    for name, path in list_suites(suite_folders()).items():
        raw = read_yaml(path, "a suite")
        title = raw.get("title", "") if isinstance(raw, dict) else ""
        rows.append([name, str(title)])
    return _table(["suite", "title"], rows)
