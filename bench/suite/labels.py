"""Default labels: what an entry that has none of its own is called in tables."""

from __future__ import annotations

from collections.abc import Mapping

from bench.core.model_uri import short_name

_WORDS = {
    "surrogate": "from {}",
    "batch_size": "batch size {}",
    "eot_iter": "EOT {}",
    "eps": "eps {}",
}


def model_label(value: object) -> str:
    """Returns the label of a model entry as the file has it; an empty string if it has its own.

    It is the checkpoint's name, a URI's in short, with what the entry says of how it is attacked.
    """
    name = short_name(_unlabelled(value, "checkpoint"))
    if not isinstance(value, dict) or not name:
        return ""
    said = ", ".join(model_traits(value))
    return name + (f" ({said})" if said else "")


def model_traits(value: Mapping[str, object]) -> list[str]:
    """Returns what a model entry says of how it is attacked, in the words of a label."""
    own = [_text(value.get("stats")), _text(value.get("protocol"))]
    if source := source_name(value.get("surrogate")):
        own[1] = f"{own[1]} from {source}".strip()
    if draws := _draws(value.get("eot_iter")):
        own.append(f"eot {draws}")
    own += [_text(value.get("eot")), _text(value.get("adversary"))]
    return list(filter(None, own))


def attack_label(value: object) -> str:
    """Returns the label of an attack entry as the file has it; an empty string if it has its own.

    It is the attack's name, without its library, with how it averages and its eps if the entry says
    so.
    """
    name = _unlabelled(value, "attack")
    if not isinstance(value, dict) or not name:
        return ""
    draws = _draws(value.get("eot_iter"))
    own = [name.rpartition(":")[2] or name, f"EOT-{draws}" * bool(draws), _text(value.get("eot"))]
    if isinstance(eps := value.get("eps"), str | float):
        own.append(f"eps {eps}")
    return " ".join(filter(None, own))


def varied_word(field: str, word: str) -> str:
    """Returns a value that ``each`` gave to a field, as it stands in a label: ``n_iter 20``."""
    name = field.removeprefix("params.")
    return _WORDS.get(field, "{}" if name == field else name + " {}").format(word)


def _unlabelled(value: object, key: str) -> str:
    """Returns what an entry without a label names, or an empty string."""
    if not isinstance(value, dict) or value.get("label") is not None:
        return ""
    name = value.get(key)
    return name if isinstance(name, str) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _draws(value: object) -> int:
    """Returns an ``eot_iter`` that was given, or 0; YAML's on is no number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def source_name(surrogate: object) -> str:
    """Returns a surrogate in the words of a label, or an empty string."""
    if not isinstance(surrogate, dict):
        return short_name(_text(surrogate))
    parts = (short_name(_text(surrogate.get("checkpoint"))), _text(surrogate.get("stats")))
    return " ".join(filter(None, parts))
