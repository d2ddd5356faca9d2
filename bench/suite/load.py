"""From a suite file to a resolved suite, or to one error that lists all of its problems."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bench.core.ball import NORMS
from bench.core.cell import DataSpec, Eot
from bench.core.errors import UserError, closest, did_you_mean, our_words, typing_errors
from bench.core.spec import Spec
from bench.core.threat import ThreatModel
from bench.published import PublishedTable
from bench.suite.checks import check_reports, check_words, find_problems
from bench.suite.entry import AnalysisEntry, Entry, PanelEntry, ReportEntry
from bench.suite.grid import Grid, write_out
from bench.suite.resolve import Lookup, Parts, ResolvedSuite, look_up_tables
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec, SurrogateEntry
from bench.suite.yaml_source import KeyPath, Problem, YamlSource, read_yaml

S = TypeVar("S", bound=Spec)

_SECTIONS: dict[str | int, type[Spec]] = {
    "data": DataSpec,
    "threat_model": ThreatModel,
    "models": ModelEntry,
    "attacks": AttackEntry,
    "analyses": AnalysisEntry,
    "reports": ReportEntry,
}
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}

_TYPO = 2
"""Typing errors up to which an attack's unknown key is one of its keys, not a parameter."""


def load_suite(path: Path, lookup: Lookup, *, skip_missing: bool = False) -> ResolvedSuite:
    """Reads, resolves and checks a suite file; loads no model.

    Args:
        path: The file.
        lookup: Where its names are looked up.
        skip_missing: Accepts checkpoints that are not here.

    Raises:
        UserError: One line for every problem found, in the order of the file:
            ``file:line: key.path: message``, with the nearest valid name where there is one.
    """
    source, grid = _read(path)
    problems = list(source.problems)
    suite, faults = _whole(source, grid)
    parts = _sound_parts(grid, skip_missing)
    known, others = find_problems(parts, _analyses(grid), lookup)
    problems += faults
    problems += [Problem(grid.place(problem.path), problem.message) for problem in others]
    if suite is not None and not problems:
        problems += check_reports(suite, known)
    if problems or suite is None:
        raise _refusal(source, problems)
    return ResolvedSuite.of(suite, known)


def read_suite(path: Path) -> SuiteSpec:
    """Reads a suite file and checks its words alone: keys, labels, reports, published rows.

    Models, attacks and data are not looked up, and so need not be here.

    Raises:
        UserError: As ``load_suite`` does.
    """
    source, grid = _read(path)
    suite, faults = _whole(source, grid)
    parts = _sound_parts(grid, skip_missing=True)
    tables: dict[str, PublishedTable] = {}
    others = [*look_up_tables(parts, tables), *check_words(parts, _analyses(grid), tables)]
    problems = [*source.problems, *faults]
    problems += [Problem(grid.place(problem.path), problem.message) for problem in others]
    if problems or suite is None:
        raise _refusal(source, problems)
    return suite


def _read(path: Path) -> tuple[YamlSource, Grid]:
    """Returns a file's values, and its suite with every ``each`` written out."""
    source = read_yaml(path)
    if not isinstance(source.value, dict):
        found = "a list" if isinstance(source.value, list) else "a single value"
        raise UserError(
            f"{path}:1: expected a mapping of keys such as 'suite:' and 'models:', found {found}"
        )
    grid = write_out(source.value)
    if grid.problems:
        # An ``each`` must be written out before its entries can be checked.
        raise _refusal(source, [*source.problems, *grid.problems])
    return source, grid


def _analyses(grid: Grid) -> list[object]:
    """Returns the names of a suite's analyses, those of faulty entries too."""
    given = grid.value.get("analyses")
    entries = given if isinstance(given, list) else []
    return [entry.get("analysis") if isinstance(entry, dict) else entry for entry in entries]


def _whole(source: YamlSource, grid: Grid) -> tuple[SuiteSpec | None, list[Problem]]:
    """Returns the suite, or ``None`` and the problems that make it unsound in itself."""
    try:
        return _validate(SuiteSpec, grid.value), []
    except ValidationError as error:
        # The checks of parts find repeated labels too, and know the entry's line.
        # A list whose entries are all wrong is not an empty one.
        found_here = [
            one
            for one in error.errors()
            if one["type"] != "repeated_label" and not (one["type"] == "too_short" and one["input"])
        ]
        return None, [_problem(one, source, grid) for one in found_here]


def _refusal(source: YamlSource, problems: list[Problem]) -> UserError:
    ordered = sorted(problems, key=lambda problem: source.mark(problem.path).line)
    return UserError("\n".join(dict.fromkeys(map(source.describe, ordered))))


def _validate(kind: type[S], value: object) -> S:
    # Through JSON, because only there does strict mode take lists for tuples. Strict, because
    # otherwise YAML's off and on would count as the numbers 0 and 1.
    return kind.model_validate_json(json.dumps(value), strict=True)


def _sound_parts(grid: Grid, skip_missing: bool) -> Parts:
    """Returns the sections that are valid by themselves, so that they can be checked further."""
    value = grid.value
    given = value.get("threat_model")
    threat = _sound(ThreatModel, given)
    norm = given.get("norm", "linf") if isinstance(given, dict) else "linf"
    norm = norm if threat is None else threat.norm
    eot = value.get("eot")
    return Parts(
        data=_sound(DataSpec, value.get("data")),
        threat=threat,
        union=tuple(filter(None, (_sound(ThreatModel, one) for one in _listed(value, "union")))),
        norm=norm if norm in NORMS else None,
        eot=cast(Eot, eot) if eot in get_args(Eot) else "plain",
        models=dict(_sound_items(ModelEntry, value.get("models"))),
        attacks=dict(_sound_items(AttackEntry, value.get("attacks"))),
        analyses=dict(_sound_items(AnalysisEntry, value.get("analyses"))),
        reports=dict(_sound_items(ReportEntry, value.get("reports"))),
        place=grid.place,
        skip_missing=skip_missing,
    )


def _sound(kind: type[S], value: object) -> S | None:
    try:
        return _validate(kind, value)
    except ValidationError:
        return None


def _listed(value: Mapping[str, object], key: str) -> list[object]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _sound_items(kind: type[S], value: object) -> Iterator[tuple[int, S]]:
    for position, item in enumerate(value if isinstance(value, list) else []):
        entry = _sound(kind, item)
        if entry is not None:
            yield position, entry


def _problem(error: ErrorDetails, source: YamlSource, grid: Grid) -> Problem:
    """Rewords a pydantic error."""
    path = grid.place(tuple(error["loc"]))
    written = source.mark(path).text
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return Problem(path, "required, but missing")
    if kind == "extra_forbidden":
        key = str(path[-1])
        hint = did_you_mean(key, _known_keys(path[:-1]))
        if path[0] == "attacks" and len(path) == 3:
            near = closest(key, _known_keys(path[:-1]))
            typo = near is not None and typing_errors(key, near) <= _TYPO
            hint = hint * typo + f"; a parameter of the attack is written params: {{{key}: ...}}"
        return Problem(path, f"unknown key{hint}")
    if kind == "too_short":
        return Problem(path, "expected at least one entry, found none")
    found = f", found {_shown(error['input'])}"
    if kind in _EXPECTED:
        return Problem(path, f"expected {_EXPECTED[kind]}{found}{_quoting_hint(error, written)}")
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        hint = _quoting_hint(error, written) or did_you_mean(str(error["input"]), names)
        return Problem(path, f"expected {context['expected']}{found}{hint}")
    if kind == "string_pattern_mismatch":
        wanted = "lower-case letters, digits, '_' and '-'"
        return Problem(path, f"expected only {wanted}{found}")
    message = our_words(error).removeprefix("Input should be ")
    if kind == "value_error":
        if path == ("threat_model",) and not isinstance(error["input"], str):
            path = (*path, "eps_space" if message.startswith("eps_space") else "eps")
        return Problem(
            path,
            message + ("" if isinstance(error["input"], dict) or "found" in message else found),
        )
    return Problem(path, f"expected a value {message}{found}")


def _known_keys(path: KeyPath) -> list[str]:
    """Returns the keys that the mapping at a path may have."""
    if path and path[-1] == "surrogate":
        return list(SurrogateEntry.model_fields)
    if "panels" in path:
        return list(PanelEntry.model_fields)
    kind = _SECTIONS[path[0]] if path else SuiteSpec
    own = ["each"] if issubclass(kind, Entry) else []
    return own + [name for name in kind.model_fields if name != "varied"]


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping of keys" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _quoting_hint(error: ErrorDetails, text: str) -> str:
    """Explains a boolean, or a number, that was meant as text and is ``text`` in the file."""
    value = error["input"]
    if isinstance(value, bool) and text:
        return f"; YAML reads an unquoted {text} as {value}: quote it ('{text}')"
    wants_text = error["type"] in ("string_type", "literal_error")
    if wants_text and isinstance(value, int | float) and text:
        return f"; quote it ('{text}')"
    return ""
