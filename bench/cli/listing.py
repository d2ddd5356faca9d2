"""``rbench list``.

Every start of ``rbench`` imports this module, so each listing imports what it needs when made.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from bench.cli.options import AsJson, Checkpoints, console, errors, print_table, say, starting
from bench.core.errors import UserError, did_you_mean
from bench.core.model_spec import size_text
from bench.core.paths import checkpoint_roots, checkpoints_folder, recipes_folder, suite_folders

if TYPE_CHECKING:
    from bench.attacks.base import Attack
    from bench.core.registry import Registry
    from bench.core.spec import Spec

T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """A listing: values under headings, and why some entries are left out of it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    problems: Sequence[str] = ()

    def table(self) -> Table:
        """Returns the listing as a table for the terminal."""
        table = Table()
        for column in self.columns:
            table.add_column(column)
        for row in self.rows:
            table.add_row(*map(_shown, row))
        return table

    def json(self) -> str:
        """Returns the listing as objects in JSON; keys are headings with ``_`` for spaces."""
        keys = [column.replace(" ", "_") for column in self.columns]
        lines = [dict(zip(keys, row, strict=True)) for row in self.rows]
        return json.dumps(lines, indent=2, ensure_ascii=False)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.2%}" if isinstance(value, float) else str(value)


def listings(incomplete: str) -> list[str]:
    """Completes the name of a listing."""
    return starting(LISTINGS, incomplete)


def list_(
    what: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(LISTINGS)}. Without it: what each of these lists.",
            autocompletion=listings,
            show_default=False,
        ),
    ] = "",
    checkpoints: Checkpoints = None,
    as_json: AsJson = False,
) -> None:
    """List what can be named in a suite."""
    list_command(console, what, checkpoints, as_json)


def list_command(console: Console, what: str, checkpoints: Path | None, as_json: bool) -> None:
    """Prints one of the listings.

    Raises:
        UserError: When there is no such listing.
    """
    if what and what not in LISTINGS:
        raise UserError(f"nothing to list under '{what}'{did_you_mean(what, LISTINGS)}")
    if what:
        found = LISTINGS[what].make(checkpoints_folder(checkpoints))
    else:
        rows = [[f"rbench list {name}", kind.about] for name, kind in LISTINGS.items()]
        found = Listing(["command", "what it lists"], rows)
    if as_json:
        typer.echo(found.json())
    else:
        print_table(console, found.table())
        for problem in found.problems:
            say(console, problem)


def _recipes(folder: Path) -> Listing:
    from bench.train.recipe import list_recipes
    from bench.zoo import list_checkpoints

    there = set(list_checkpoints(folder))
    return Listing(
        ["recipe", "scale", "data", "network", "norm", "training", "epochs", "trained"],
        [
            [
                recipe.name,
                recipe.scale,
                recipe.dataset,
                recipe.model.arch,
                recipe.model.norm.label(),
                recipe.kind,
                recipe.epochs,
                recipe.name in there,
            ]
            for recipe in list_recipes(recipes_folder(folder))
        ],
    )


def _entries(registry: Registry[T]) -> tuple[dict[str, T], list[str]]:
    """Returns the entries of a registry, and the errors of those that cannot be loaded."""
    found: dict[str, T] = {}
    problems = []
    for name in registry:
        try:
            found[name] = registry.get(name)
        except UserError as error:
            problems.append(str(error))
    return found, problems


def _origin(registry: Registry[T], name: str) -> str:
    """Returns the package, with its version, that an entry comes from."""
    plugin = registry.plugin(name) if name in registry else None
    return plugin.origin if plugin else "rbench"


def _attacks(_: Path) -> Listing:
    from bench.attacks import ATTACKS
    from bench.attacks.registry import LIBRARIES

    found, problems = _entries(ATTACKS)
    rows: list[list[object]] = []
    for name, attack in found.items():
        origin = _origin(ATTACKS, name) if ":" not in name else attack.library
        rows.append([*_attack_words(name, attack), origin])
    for prefix in LIBRARIES:
        more, problem = _library_attacks(prefix)
        rows += [[*row] for row in more if row[0] not in found]
        problems += [problem] * bool(problem)
    columns = ["attack", "kind", "norms", "parameters", "what it is", "from"]
    return Listing(columns, rows, problems)


def _attack_words(name: str, attack: Attack) -> list[str]:
    return [name, attack.kind, "/".join(attack.norms), _params(attack.params), attack.summary]


def _library_attacks(prefix: str) -> tuple[list[list[str]], str]:
    """Returns the rows of a library's attacks, and why there are none.

    Only the library can tell, and importing it takes seconds. So what it told is kept in the cache
    folder, for this version of it and this code.
    """
    from bench.attacks.registry import LIBRARIES, adapter_files, library_attacks
    from bench.core.host import installed
    from bench.core.paths import cache_folder
    from bench.core.spec import digest
    from bench.store.files import write_atomically

    files = [path.read_text("utf-8") for path in adapter_files()]
    key = digest([installed(LIBRARIES[prefix].distribution), files])
    path = cache_folder() / "attacks" / f"{prefix}.json"
    try:
        kept = json.loads(path.read_text("utf-8"))
        if kept["key"] == key:
            return kept["rows"], kept["problem"]
    except (OSError, ValueError, LookupError, TypeError):  # not kept yet, or damaged
        pass
    rows, problem = [], ""
    say(errors, f"asking {prefix} for its attacks; the answer is kept for the next time")
    try:
        rows = [[*_attack_words(a.name, a), a.library] for a in library_attacks(prefix)]
    except UserError as error:
        problem = str(error)
    with contextlib.suppress(UserError):  # else the next listing asks again
        told = {"key": key, "rows": rows, "problem": problem}
        write_atomically(path, json.dumps(told).encode())
    return rows, problem


def _norms(_: Path) -> Listing:
    from bench.core.norm_spec import FAMILIES, PLUGIN_NORMS

    found, problems = _entries(PLUGIN_NORMS)
    own = [[k, family.summary, "rbench"] for k, family in FAMILIES.items() if k != "foreign"]
    more = [[name, norm.summary, _origin(PLUGIN_NORMS, name)] for name, norm in found.items()]
    return Listing(["norm", "what it is", "from"], own + more, problems)


def _reports(_: Path) -> Listing:
    from bench.core.registry import plugins
    from bench.suite.report_kinds import PLUGINS, REPORT_KINDS

    rows = [[n, kind.summary, kind.wants(n), "rbench"] for n, kind in REPORT_KINDS.items()]
    problems: list[str] = []
    if plugins(PLUGINS):  # the builders are imported for the words of plugins alone
        from bench.report.kinds import BUILDERS

        found, problems = _entries(BUILDERS)
        more = [name for name in found if name not in REPORT_KINDS]
        rows += [[n, _first_line(found[n]), "", _origin(BUILDERS, n)] for n in more]
    return Listing(["report", "what it shows", "what a suite needs for it", "from"], rows, problems)


def _first_line(thing: object) -> str:
    """Returns the first line of a docstring; empty without one."""
    return (getattr(thing, "__doc__", None) or "").strip().partition("\n")[0]


def _params(params: type[Spec]) -> str:
    """Returns parameters with their defaults, where they have one."""
    fields = params.model_fields.items()
    return ", ".join(k if f.is_required() else f"{k}={f.default}" for k, f in fields)


def _analyses(_: Path) -> Listing:
    from bench.analysis import ANALYSES

    rows: list[list[object]] = []
    for name in ANALYSES:
        analysis = ANALYSES.get(name)
        rows.append([name, _params(analysis.params), analysis.summary])
    return Listing(["analysis", "parameters", "what it is"], rows)


def _models(_: Path) -> Listing:
    from bench.core.model_spec import ARCHITECTURES, FAMILIES, FAMILY_SUMMARIES, MODEL_GROUP
    from bench.core.registry import plugins

    columns = ["architecture", "what it is", "from"]
    own = [[name, summary, "rbench"] for name, summary in ARCHITECTURES.items()]
    own += [
        [f"{rule}, such as {example}", FAMILY_SUMMARIES[rule], "rbench"]
        for rule, example in FAMILIES.items()
    ]
    if not plugins(MODEL_GROUP):
        return Listing(columns, own)
    from bench.models.build import PLUGIN_MODELS  # imports torch, as plugins do

    found, problems = _entries(PLUGIN_MODELS)
    more = [[n, _first_line(found[n]), _origin(PLUGIN_MODELS, n)] for n in found]
    return Listing(columns, own + more, problems)


def _schemes(_: Path) -> Listing:
    from bench.zoo import SCHEMES

    entries = [(name, SCHEMES.get(name)) for name in SCHEMES]
    rows = [[name, one.example, ", ".join(one.keys), one.needs] for name, one in entries]
    return Listing(["scheme", "example of a model's URI", "keys", "needs"], rows)


def _datasets(_: Path) -> Listing:
    from bench.data.named import DATASETS

    found, problems = _entries(DATASETS)
    rows = [
        [d.name, d.classes, f"{d.channels} x {size_text(d.size)}", _origin(DATASETS, d.name)]
        for d in found.values()
    ]
    return Listing(["data set", "classes", "image", "from"], rows, problems)


def _checkpoints(folder: Path) -> Listing:
    from bench.zoo import list_folders, read_card

    rows: list[list[object]] = []
    for one in list_folders(checkpoint_roots(folder)):
        card = read_card(one / "card.yaml")
        clean = card.clean_accuracy.value
        training = card.training.partition(" (sha256")[0]  # an import's file is hashed on its card
        rows.append([one.name, card.model.norm.label(), training, card.dataset, clean])
    return Listing(["checkpoint", "norm", "training", "data set", "clean accuracy"], rows)


def _suites(_: Path) -> Listing:
    from bench.suite.find import list_suites
    from bench.untrusted.spec_file import read_yaml

    rows: list[list[object]] = []
    for name, path in list_suites(suite_folders()).items():
        raw = read_yaml(path, "a suite")
        title = raw.get("title", "") if isinstance(raw, dict) else ""
        rows.append([name, str(title)])
    return Listing(["suite", "title"], rows)


@dataclass(frozen=True)
class Kind:
    """A kind of listing: what it lists, and its maker, from the folder of checkpoints."""

    about: str
    make: Callable[[Path], Listing]


LISTINGS: dict[str, Kind] = {
    "analyses": Kind("measurements that need more than rows, for a suite's analyses", _analyses),
    "attacks": Kind(
        "attacks of rbench and of installed libraries, with their parameters", _attacks
    ),
    "norms": Kind("normalization layers", _norms),
    "models": Kind("architectures that recipes and zoo import build", _models),
    "schemes": Kind("where models of other libraries and files come from: their URIs", _schemes),
    "datasets": Kind("data sets by name", _datasets),
    "reports": Kind("kinds of report: tables and figures of a run", _reports),
    "checkpoints": Kind("trained models that are here", _checkpoints),
    "recipes": Kind("trainings, for rbench train", _recipes),
    "suites": Kind("suites by name, for rbench run", _suites),
}
"""All listings, by name."""
