"""Models of a suite that cannot be run, as a checkpoint of theirs is not here."""

from __future__ import annotations

from bench.core.errors import MissingCheckpointError, UserError
from bench.core.model_uri import is_uri
from bench.suite.catalog import Catalog
from bench.suite.spec import SuiteSpec


def absent_models(suite: SuiteSpec, catalog: Catalog) -> dict[int, str]:
    """Returns the positions of the models that lack a checkpoint, their own or their surrogate's.

    Returns:
        The name of the checkpoint, by the model's position.

    Raises:
        UserError: When a checkpoint is damaged.
    """
    absent = {}
    for i, model in enumerate(suite.models):
        for name in (model.source_checkpoint, model.checkpoint):
            try:
                catalog.checkpoint(name)
            except MissingCheckpointError:
                absent[i] = name
    return absent


def refuse_all_absent(suite: SuiteSpec, absent: dict[int, str]) -> None:
    """Raises ``UserError`` when no model of a suite can be run."""
    if len(absent) == len(suite.models):
        names = list(dict.fromkeys(absent.values()))
        own = next((name for name in names if not is_uri(name)), None)
        raise UserError(
            f"{suite.suite}: none of its checkpoints is here, so that there is nothing to run: "
            f"{', '.join(names)}" + (f"; `rbench train {own}` makes one of them" if own else "")
        )
