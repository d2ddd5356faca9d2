"""What a check within a budget has chosen to run, and what that can see."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from bench.check.record import Key
from bench.core.base import Spec
from bench.core.places import Folder
from bench.store import write_atomically

How = Literal["all", "near", "first", "near batches", "first batches"]
"""Which images were taken. ``near``: by the outcomes of other cells. ``first``: in the slice's
order, as nothing is known of them, or nothing that may be used."""

_WORDS: dict[How, str] = {
    "all": "all {n:,} images",
    "near": "{n:,} of {of:,} images, near the decision by what the other cells say of them",
    "first": "{n:,} of {of:,} images, in the slice's own order",
    "near batches": "{n:,} of {of:,} images, in whole batches with most images near the decision",
    "first batches": "{n:,} of {of:,} images, in whole batches in the slice's own order",
}


class Choice(Spec):
    """A cell that is run on some of its images.

    Attributes:
        model: Label of the model.
        attack: Label of the attack.
        index: The images, by position in the split, in the order in which they are run.
        of: Images of the cell in the baseline.
        how: How they were taken.
        seconds: That it may take one worker.
        alike: Least drop of the whole slice's accuracy that is found nine times in ten, if every
            image that was right is lost with the same probability; ``None`` where that is unknown.
        nearest: The same if no other images but these are lost.
        unknown: Why there is no such drop.
    """

    model: str
    attack: str
    index: tuple[int, ...] = Field(min_length=1)
    of: int = Field(ge=1)
    how: How
    seconds: float = Field(ge=0)
    alike: float | None = None
    nearest: float | None = None
    unknown: str = ""

    @property
    def key(self) -> Key:
        """The labels of the cell."""
        return self.model, self.attack

    def text(self) -> str:
        """Says in a line what is run, and what drop would be found."""
        taken = _WORDS[self.how].format(n=len(self.index), of=self.of)
        if self.alike is None or self.nearest is None:
            return f"{self.model} / {self.attack}: {taken}; what drop it finds: {self.unknown}"
        alike = f"a drop of {100 * self.alike:.1f} points"
        if self.how != "all":
            alike += (
                " if all images are alike in losing, of "
                f"{100 * self.nearest:.1f} if these are lost first"
            )
        return f"{self.model} / {self.attack}: {taken}; finds, nine times in ten, {alike}"


class Chosen(Spec):
    """The content of ``check.json``: so that a check that was stopped goes on with what it chose.

    Attributes:
        key: Of all that decides what is chosen and run; with another, what is stored is of no use.
        choices: What was chosen.
    """

    key: str
    choices: tuple[Choice, ...]


def write_chosen(folder: Folder, chosen: Chosen) -> None:
    """Writes what was chosen into a run folder."""
    write_atomically(_path(folder), chosen.model_dump_json(indent=2).encode())


def read_chosen(folder: Folder) -> Chosen | None:
    """Returns what was chosen in a run folder; ``None`` where that cannot be read."""
    try:
        return Chosen.model_validate_json(_path(folder).read_bytes())
    except (OSError, ValidationError):
        return None


def _path(folder: Folder) -> Folder:
    return folder / "store" / "check.json"
