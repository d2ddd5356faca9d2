"""``each``: one entry of a suite that stands for many, written out before anything is checked."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from bench.attacks.registry import DECLARED
from bench.core.attack import CORRUPTION, NO_ADVERSARY
from bench.core.errors import did_you_mean, our_words
from bench.core.model_uri import short_name
from bench.core.threat import ThreatModel, union_faults
from bench.suite.yaml_source import KeyPath, Problem, key_path

_WORDS = {
    "surrogate": "from {}",
    "batch_size": "batch size {}",
    "eot_iter": "EOT {}",
    "eps": "eps {}",
    "y_target": "to {}",
    "params.name": "{}",
    "gradient_model": "gradients of {}",
    "loss": "loss {}",
}


def model_label(value: object) -> str:
    """Returns the default label of a model entry; an empty string if it has its own.

    The label is the checkpoint's name (short for a URI) with the entry's statistics, protocol,
    draws, adversary, gradient_model and loss.
    """
    name = short_name(_unlabelled(value, "checkpoint"))
    if not isinstance(value, dict) or not name:
        return ""
    said = ", ".join(model_traits(value))
    return name + (f" ({said})" if said else "")


def model_traits(value: Mapping[str, object]) -> list[str]:
    """Returns the parts of a label for all that an entry says of how it is attacked and scored."""
    own = [_text(value.get("stats")), _text(value.get("protocol"))]
    if source := source_name(value.get("surrogate")):
        own[1] = f"{own[1]} from {source}".strip()
    if draws := _draws(value.get("eot_iter")):
        own.append(f"eot {draws}")
    own += [_text(value.get("eot")), _text(value.get("adversary"))]
    for name in ("gradient_model", "loss"):
        own.append(
            varied_word(name, short_name(given)) if (given := _text(value.get(name))) else ""
        )
    return list(filter(None, own))


def attack_label(value: object) -> str:
    """Returns the default label of an attack entry; an empty string if it has its own.

    The label is the attack's name without its library, with the entry's draws and eps.
    """
    name = _unlabelled(value, "attack")
    if not isinstance(value, dict) or not name:
        return ""
    draws = _draws(value.get("eot_iter"))
    if name == CORRUPTION:
        name = _corruption(value.get("params"))
    own = [name.rpartition(":")[2] or name, f"EOT-{draws}" * bool(draws), _text(value.get("eot"))]
    if isinstance(eps := value.get("eps"), str | float | int) and not isinstance(eps, bool):
        own.append(f"{_text(value.get('norm')) or 'eps'} {eps}")
    if (goal := value.get("y_target")) is not None and not isinstance(goal, bool):
        own.append(f"to {_goal(goal)}")
    return " ".join(filter(None, own))


def _corruption(params: object) -> str:
    """Returns a corruption's name and severity, as far as they are given."""
    found = params if isinstance(params, dict) else {}
    name, severity = _text(found.get("name")), found.get("severity")
    return f"{name or CORRUPTION} {severity}" if isinstance(severity, int) else name or CORRUPTION


def _goal(y_target: object) -> str:
    """Returns a target class as it stands in a label."""
    if isinstance(y_target, list | tuple):
        return "given classes"
    words = str(y_target).replace("_", " ")
    return f"class {words}" if isinstance(y_target, int) else words


def varied_word(field: str, word: str) -> str:
    """Returns a value that ``each`` gave to a field, as it stands in a label: ``n_iter 20``."""
    name = field.removeprefix("params.")
    return _WORDS.get(field, "{}" if name == field else name + " {}").format(word)


def _unlabelled(value: object, key: str) -> str:
    """Returns the name under ``key`` of an entry without a label, else an empty string."""
    if not isinstance(value, dict) or value.get("label") is not None:
        return ""
    name = value.get(key)
    return name if isinstance(name, str) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _draws(value: object) -> int:
    """Returns an ``eot_iter`` that was given, or 0; YAML's ``on`` is not a number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def source_name(surrogate: object) -> str:
    """Returns a surrogate in the words of a label, or an empty string."""
    if not isinstance(surrogate, dict):
        return short_name(_text(surrogate))
    parts = (short_name(_text(surrogate.get("checkpoint"))), _text(surrogate.get("stats")))
    return " ".join(filter(None, parts))


MAX_ENTRIES = 1_000
"""Of a section, once every ``each`` is written out."""

MODEL_FIELDS = (
    "checkpoint",
    "surrogate",
    "stats",
    "batch_size",
    "adversary",
    "eot_iter",
    "protocol",
    "gradient_model",
    "loss",
)
ATTACK_FIELDS = ("eps", "eot_iter", "y_target", "params.NAME")
_FIELDS = {"models": MODEL_FIELDS, "attacks": ATTACK_FIELDS}


@dataclass(frozen=True)
class _Choice:
    """One value of a varied field: where it stands under ``each``, its word in labels, itself."""

    at: KeyPath
    word: str
    value: object


@dataclass(frozen=True)
class _Origin:
    """Where a written-out entry comes from: its place in the file, and that of each choice."""

    position: int
    choices: Mapping[tuple[str, ...], KeyPath] = field(default_factory=dict)


@dataclass
class Grid:
    """A suite's value with every ``each`` written out.

    Attributes:
        value: As in the file, except for the entries of models and attacks.
        problems: Faults of an ``each``; with any, ``value`` must not be used.
    """

    value: dict[str, object]
    problems: list[Problem] = field(default_factory=list)
    _origins: dict[str, list[_Origin]] = field(default_factory=dict)
    _listed: bool = False

    def place(self, path: KeyPath) -> KeyPath:
        """Returns where in the file a key path of the written-out value stands."""
        if self._listed and path and path[0] == "threat_model":
            return ("threat_model", 0, *path[1:])
        if self._listed and path and path[0] == "union":
            k = path[1] + 1 if len(path) > 1 and isinstance(path[1], int) else 1
            return ("threat_model", k, *path[2:])
        origins = self._origins.get(str(path[0]), []) if len(path) > 1 else []
        if not origins or not isinstance(path[1], int) or path[1] >= len(origins):
            return path
        origin, rest = origins[path[1]], path[2:]
        for keys, at in origin.choices.items():
            if rest[: len(keys)] == keys:
                return (*at, *rest[len(keys) :])
        return (path[0], origin.position, *rest)


def write_out(value: Mapping[str, object]) -> Grid:
    """Replaces each entry that has ``each`` by the Cartesian product of its lists, in order.

    The last list of an ``each`` runs fastest. A mapping in place of a list gives its values short
    names for labels.
    """
    grid = Grid(dict(value))
    balls = _listed_balls(grid)
    for section in _FIELDS:
        entries = value.get(section)
        if not isinstance(entries, list):
            continue
        found: list[object] = []
        origins: list[_Origin] = []
        for position, entry in enumerate(entries):
            path: KeyPath = (section, position)
            if not isinstance(entry, dict) or not {"each", "varied"} & set(entry):
                for written, origin in _in_balls(section, entry, _Origin(position), balls):
                    found.append(written)
                    origins.append(origin)
                continue
            if "varied" in entry:
                grid.problems.append(Problem((*path, "varied"), "unknown key"))
                continue
            axes, problems = _axes(path, entry)
            grid.problems += problems or _too_many(path, axes, len(found))
            if not grid.problems:
                for one, start in _entries(section, position, entry, axes):
                    for written, origin in _in_balls(section, one, start, balls):
                        found.append(written)
                        origins.append(origin)
        grid.value[section] = found
        grid._origins[section] = origins
    return grid


def _listed_balls(grid: Grid) -> tuple[ThreatModel, ...]:
    """Takes a list of threat models apart; returns them, or none where there is one alone."""
    if "union" in grid.value:
        message = "unknown key; threat_model takes a list: [linf:8/255, l2:0.5]"
        grid.problems.append(Problem(("union",), message))
    given = grid.value.get("threat_model")
    if not isinstance(given, list):
        return ()
    balls: list[ThreatModel] = []
    for k, one in enumerate(given):
        try:
            balls.append(ThreatModel.model_validate(one))
        except ValidationError as error:
            grid.problems.append(Problem(("threat_model", k), our_words(error.errors()[0])))
    if len(balls) == len(given):
        for k, message in union_faults(balls):
            grid.problems.append(Problem(("threat_model", k), message))
    if not grid.problems:
        grid.value["threat_model"], *rest = given
        grid.value["union"], grid._listed = rest, True
    return tuple(balls) if len(balls) > 1 else ()


def _in_balls(
    section: str, entry: object, origin: _Origin, balls: Sequence[ThreatModel]
) -> Iterator[tuple[object, _Origin]]:
    """Yields an entry, or an attack's once for each ball of a union, with its place in the file."""
    written = in_every_ball(entry, balls) if section == "attacks" else None
    if written is None:
        yield entry, origin
        return
    for k, one in written:
        at: KeyPath = ("threat_model", k)
        choices = {**origin.choices, ("eps",): at, ("norm",): at}
        yield one, _Origin(origin.position, choices)


def in_every_ball(
    entry: object, balls: Sequence[ThreatModel]
) -> list[tuple[int, dict[str, object]]] | None:
    """Returns an attack's entry once for each ball whose norm it serves, with the ball's number.

    Args:
        entry: As in a file, with its ``each`` written out: a name or a mapping.
        balls: Of a union; the first is the suite's own.

    Returns:
        ``None`` where it stays as it is: there is one ball, or it names its own, or it attacks
        nothing.
    """
    one = {"attack": entry} if isinstance(entry, str) else entry
    name = one.get("attack") if isinstance(one, dict) else None
    if len(balls) < 2 or not isinstance(one, dict) or not isinstance(name, str):
        return None
    declared = DECLARED.get(name)
    no_adversary = declared is not None and declared.kind in NO_ADVERSARY
    if {"eps", "norm"} & set(one) or no_adversary:
        return None
    label, series = one.get("label") or attack_label(one), one.get("series")
    varied = one.get("varied")
    written: list[tuple[int, dict[str, object]]] = []
    for k, ball in enumerate(balls):
        if declared is None or ball.norm in declared.norms:
            said = ball.describe()
            words = {**(varied if isinstance(varied, dict) else {}), "threat_model": said}
            own = {"norm": ball.norm, "eps": ball.eps} if k else {}
            names = {"label": f"{label}, {said}", "series": series or label, "varied": words}
            written.append((k, {**one, **own, **names}))
    return written or None  # of an attack that serves none of them, its lookup says so


Axes = dict[str, list[_Choice]]


def _axes(path: KeyPath, entry: Mapping[str, object]) -> tuple[Axes, list[Problem]]:
    """Returns the choices of each varied field, and their faults."""
    each, at = entry["each"], (*path, "each")
    known = _FIELDS[str(path[0])]
    if not isinstance(each, dict) or not each:
        message = f"expected a mapping of fields to lists; fields: {', '.join(known)}"
        return {}, [Problem(at, message)]
    axes: Axes = {}
    problems: list[Problem] = []
    for name, values in each.items():
        here = (*at, name)
        found = list(_field_problems(here, name, entry, known))
        if not found:
            axes[name] = _choices(here, name, values)
            found = list(_value_problems(here, name, values, axes[name]))
        problems += found
    return axes, problems


def _field_problems(
    at: KeyPath, name: str, entry: Mapping[str, object], known: tuple[str, ...]
) -> Iterator[Problem]:
    parent, _, parameter = name.partition(".")
    is_parameter = parent == "params" and bool(parameter) and "params.NAME" in known
    if name == "params.NAME" or not (is_parameter or name in known):
        hint = did_you_mean(name, known)
        expected = f"expected one of {', '.join(known)}"
        yield Problem(at, f"cannot be varied by each; {expected}{hint}")
        return
    beside = entry.get("params") if is_parameter else entry
    if is_parameter and not isinstance(beside, dict | None):
        yield Problem((*at[:-2], "params"), "expected a mapping of keys")
    elif isinstance(beside, dict) and (parameter or name) in beside:
        yield Problem(at, "given beside each too; remove one of them")


def _value_problems(
    at: KeyPath, name: str, values: object, choices: list[_Choice]
) -> Iterator[Problem]:
    if not choices:
        yield Problem(
            at,
            f"expected a list of values, such as [...], or a mapping of short names to values, "
            f"found {'an empty one' if isinstance(values, list | dict) else repr(values)}",
        )
    words: set[str] = set()
    for choice in choices:
        if choice.word in words:
            yield Problem(choice.at, f"'{choice.word}' is a second time in {key_path(at)}")
        words.add(choice.word)


def _choices(at: KeyPath, name: str, values: object) -> list[_Choice]:
    if isinstance(values, dict):
        return [_Choice((*at, word), word, value) for word, value in values.items()]
    if isinstance(values, list):
        return [_Choice((*at, j), _word(name, v), v) for j, v in enumerate(values)]
    return []


def _word(name: str, value: object) -> str:
    """Returns a value as it stands in labels; different values have different words."""
    if name == "surrogate" and (source := source_name(value)):
        return source
    if isinstance(value, str):
        return short_name(value) if name in ("checkpoint", "gradient_model", "loss") else value
    return f"default {name}" if value is None else json.dumps(value, sort_keys=True)


def _too_many(path: KeyPath, axes: Axes, so_far: int) -> list[Problem]:
    total = so_far + math.prod(map(len, axes.values()))
    if total <= MAX_ENTRIES:
        return []
    sizes = " x ".join(str(len(choices)) for choices in axes.values())
    message = (
        f"{sizes} values make {total} entries of {path[0]}, found more than {MAX_ENTRIES}; vary "
        "less, or split the suite"
    )
    return [Problem((*path, "each"), message)]


def _entries(
    section: str, position: int, entry: Mapping[str, object], axes: Axes
) -> Iterator[tuple[dict[str, object], _Origin]]:
    """Yields the entries that one stands for, each with its place in the file."""
    common = {key: value for key, value in entry.items() if key != "each"}
    for chosen in itertools.product(*axes.values()):
        written = dict(common)
        for name, choice in zip(axes, chosen, strict=True):
            parent, _, parameter = name.partition(".")
            if parameter:
                old = written.get("params")
                params = dict(old) if isinstance(old, dict) else {}
                written["params"] = {**params, parameter: choice.value}
            else:
                written[parent] = choice.value
        words = {name: choice.word for name, choice in zip(axes, chosen, strict=True)}
        written |= _named(section, common, words)
        places = {tuple(name.split(".", 1)): c.at for name, c in zip(axes, chosen, strict=True)}
        yield written, _Origin(position, places)


def _named(
    section: str, common: Mapping[str, object], words: Mapping[str, str]
) -> dict[str, object]:
    """Returns the fields ``label``, ``series`` and ``varied`` of an entry.

    The label is the entry's without ``each``, then each varied value. A checkpoint that varies
    stands first, in place of the name that the entry does not have.
    """
    label = common.get("label")
    first: list[str] = []
    if label is not None:
        base = label
    elif section == "attacks":
        base = attack_label(common)
    elif "checkpoint" in words:
        first, base = [words["checkpoint"]], ", ".join(model_traits(common))
    else:
        base = model_label(common)
    named: dict[str, object] = {"varied": dict(words)}
    if isinstance(base, str):
        skipped = {"checkpoint"} if first else set()
        rest = [varied_word(name, w) for name, w in words.items() if name not in skipped]
        named["label"] = ", ".join(filter(None, (*first, base, *rest)))
        named["series"] = common.get("series") or base
    return named
