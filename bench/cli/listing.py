"""``rbench list``."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.core.base import Spec
from bench.core.errors import UserError, did_you_mean
from bench.core.registry import Registry
from bench.core.spec_file import read_yaml
from bench.run.paths import checkpoints_folder, suite_folders
from bench.suite import list_suites

T = TypeVar("T")

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
        "norms": _norms,
        "models": _models,
        "datasets": _datasets,
        "reports": _reports,
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


def _entries(registry: Registry[T]) -> tuple[dict[str, T], list[str]]:
    """Returns the entries of a registry, and what is wrong with those that cannot be had."""
    found: dict[str, T] = {}
    problems = []
    for name in registry:
        try:
            found[name] = registry.get(name)
        except UserError as error:
            problems.append(str(error))
    return found, problems


def _origin(registry: Registry[T], name: str) -> str:
    """Returns the package that brings an entry, with its version."""
    plugin = registry.plugin(name) if name in registry else None
    return plugin.origin if plugin else "rbench"


def _with_problems(table: Table, problems: list[str]) -> RenderableType:
    return Group(table, *(Text(problem) for problem in problems))


def _attacks() -> RenderableType:
    from bench.attacks import ATTACKS
    from bench.attacks.registry import LIBRARIES, library_attacks

    found, problems = _entries(ATTACKS)
    for prefix in LIBRARIES:
        try:
            found |= {a.name: a for a in library_attacks(prefix) if a.name not in found}
        except UserError as error:
            problems.append(str(error))
    rows = []
    for name, attack in found.items():
        origin = _origin(ATTACKS, name) if ":" not in name else attack.library
        params, norms = _params(attack.params), "/".join(attack.norms)
        rows.append([name, attack.kind, norms, params, attack.summary, origin])
    columns = ["attack", "kind", "norms", "parameters", "what it is", "from"]
    return _with_problems(_table(columns, rows), problems)


def _norms() -> RenderableType:
    from bench.core.norm_spec import PLUGIN_NORMS

    found, problems = _entries(PLUGIN_NORMS)
    own = [[name, what, "rbench"] for name, what in NORMS.items()]
    more = [[name, norm.summary, _origin(PLUGIN_NORMS, name)] for name, norm in found.items()]
    return _with_problems(_table(["norm", "what it is", "from"], own + more), problems)


def _reports() -> RenderableType:
    from bench.report import REPORTS

    found, problems = _entries(REPORTS)
    rows = [[name, _origin(REPORTS, name)] for name in found]
    return _with_problems(_table(["report", "from"], rows), problems)


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


def _models() -> RenderableType:
    from bench.core.model_spec import ARCHITECTURES
    from bench.models.build import PLUGIN_MODELS

    found, problems = _entries(PLUGIN_MODELS)
    own = [[name, "rbench"] for name in ARCHITECTURES]
    more = [[name, _origin(PLUGIN_MODELS, name)] for name in found]
    return _with_problems(_table(["architecture", "from"], own + more), problems)


def _datasets() -> RenderableType:
    from bench.data import DATASETS

    found, problems = _entries(DATASETS)
    rows = [
        [d.name, str(d.classes), f"{d.channels} x {d.size} x {d.size}", _origin(DATASETS, d.name)]
        for d in found.values()
    ]
    return _with_problems(_table(["data set", "classes", "image", "from"], rows), problems)


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
