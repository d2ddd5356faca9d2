"""Attack parameters: field types, and from a mapping to a checked specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StrictInt, ValidationError
from pydantic_core import ErrorDetails

from bench.attacks.base import Attack
from bench.core.errors import UserError, did_you_mean, our_words
from bench.core.spec import Number, Spec

Count = Annotated[StrictInt, Field(ge=1)]
"""A whole number of at least 1; ``True``, ``10.0`` and ``"10"`` are refused."""

Positive = Annotated[Number, Field(gt=0)]
"""A number or fraction greater than 0."""

NotNegative = Annotated[Number, Field(ge=0)]
"""A number or fraction of at least 0."""

OUR_WORDS = {
    "steps": "n_iter",
    "n_steps": "n_iter",
    "nb_iter": "n_iter",
    "num_iter_set": "n_iter",
    "max_iterations": "n_iter",
    "max_iter": "n_iter",
    "num_steps": "n_iter",
    "iter": "n_iter",
    "restarts": "n_restarts",
    "nb_restarts": "n_restarts",
    "step_size": "alpha",
    "abs_stepsize": "alpha",
    "absolute_step_size": "alpha",
    "eps_step": "alpha",
}
"""What libraries call a parameter, and what it is called here."""

ELSEWHERE = {
    "eps": "the threat model",
    "epsilon": "the threat model",
    "max_epsilon": "the threat model",
    "norm": "the threat model",
    "n_classes": "the model",
    "seed": "the suite",
}
"""Keys that people give as attack parameters, and where their value comes from instead."""


class NoParams(Spec):
    """The parameters of an attack that has none."""


def parse_params(
    attack: Attack, values: Mapping[str, object] | None, where: str = "params"
) -> Spec:
    """Checks an attack's parameters and fills in its defaults.

    Args:
        attack: Whose parameters they are.
        values: As read from YAML; ``None`` stands for none given.
        where: Key path of the mapping in its file, for messages.

    Raises:
        UserError: With the key path, what was found, and the nearest parameter of the attack.
    """
    problems = param_problems(attack, values)
    if problems:
        key, problem = problems[0]
        path = f"{where}.{key}" if key else where
        raise UserError(f"{path}: attack '{attack.name}': {problem}")
    return attack.params.model_validate(dict(values or {}))


def param_problems(
    attack: Attack, values: Mapping[str, object] | None
) -> tuple[tuple[str, str], ...]:
    """Returns each parameter that is wrong, with what is wrong about it."""
    return spec_problems(attack.params, values, "this attack")


def spec_problems(
    params: type[Spec], values: Mapping[str, object] | None, what: str
) -> tuple[tuple[str, str], ...]:
    """Returns each parameter that is wrong, with what is wrong about it.

    Args:
        params: What they should be.
        values: As read from YAML; ``None`` stands for none given.
        what: Whose they are, for messages, for example ``this attack``.
    """
    try:
        params.model_validate(dict(values or {}))
    except ValidationError as error:
        return tuple(_problem(params, found, what) for found in error.errors())
    return ()


def _problem(params: type[Spec], found: ErrorDetails, what: str) -> tuple[str, str]:
    key = str(found["loc"][0]) if found["loc"] else ""
    if found["type"] == "extra_forbidden":
        return key, f"unknown parameter{_nearest(key, params, what)}"
    if found["type"] == "value_error":
        return key, our_words(found)
    return key, f"{found['msg'].lower()}, found {found['input']!r}"


def _nearest(key: str, params: type[Spec], what: str) -> str:
    if key in ELSEWHERE:
        return f"; its value comes from {ELSEWHERE[key]}"
    if not params.model_fields:
        return f"; {what} has no parameters"
    ours = OUR_WORDS.get(key)
    if ours in params.model_fields:
        return f"; did you mean '{ours}'?"
    return did_you_mean(key, params.model_fields)
