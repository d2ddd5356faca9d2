"""Default labels: what an entry that has none of its own is called in tables."""

from __future__ import annotations


def model_label(value: object) -> str:
    """Returns the label of a model entry as the file has it; an empty string if it has its own.

    It is the checkpoint's name, with what the entry says of how it is attacked.
    """
    name = _unlabelled(value, "checkpoint")
    if not isinstance(value, dict) or not name:
        return ""
    own = [_text(value.get("stats")), _text(value.get("protocol"))]
    if source := _source_name(value.get("surrogate")):
        own[1] = f"{own[1]} from {source}".strip()
    if draws := _draws(value.get("eot_iter")):
        own.append(f"eot {draws}")
    own += [_text(value.get("eot")), _text(value.get("adversary"))]
    said = ", ".join(filter(None, own))
    return name + (f" ({said})" if said else "")


def attack_label(value: object) -> str:
    """Returns the label of an attack entry as the file has it; an empty string if it has its own.

    It is the attack's name, without its library, with how it averages if the entry says so.
    """
    name = _unlabelled(value, "attack")
    if not isinstance(value, dict) or not name:
        return ""
    draws = _draws(value.get("eot_iter"))
    own = [name.rpartition(":")[2] or name, f"EOT-{draws}" * bool(draws), _text(value.get("eot"))]
    return " ".join(filter(None, own))


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


def _source_name(surrogate: object) -> str:
    """Returns a surrogate in the words of a label, or an empty string."""
    if not isinstance(surrogate, dict):
        return _text(surrogate)
    parts = (_text(surrogate.get("checkpoint")), _text(surrogate.get("stats")))
    return " ".join(filter(None, parts))
