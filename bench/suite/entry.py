"""What rows and columns of a suite have in common: a label, and the line that they belong to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field

from bench.core.base import Spec
from bench.suite.fields import Line, one_line
from bench.suite.labels import varied_word


class Entry(Spec):
    """A model or an attack of a suite.

    Attributes:
        label: Name in tables.
        series: Name of the line that it is a point of in curves, for entries that are written one
            by one. Those of one ``each`` share the label that they have without its values.
        varied: What ``each`` gave to this entry, by field, in words; never in a file.
    """

    label: Line = ""
    series: Annotated[str, AfterValidator(lambda name: name and one_line(name))] = ""
    varied: dict[str, str] = Field(default_factory=dict)

    def line(self, without: Collection[str] = ()) -> str:
        """Returns the name of its line over some varied fields; empty if these are all it has."""
        words = {f: varied_word(f, word) for f, word in self.varied.items() if f not in without}
        first = words.pop("checkpoint", "")
        if not self.label.startswith(first):  # it has a label of its own, which stands first
            words, first = {"checkpoint": first, **words}, ""
        base = self.series or ("" if self.varied else self.label)
        return ", ".join(filter(None, (first, base, *words.values())))

    def named(self, name: str) -> bool:
        """Says whether a name means this entry: its label, its series, or parts of its label.

        ``PGD, n_iter 20`` means the entries of an ``each`` that have both among the parts of their
        labels, so that one name may stand for several entries.
        """
        if name in (self.label, self.series):
            return True
        return bool(self.varied) and set(name.split(", ")) <= set(self.label.split(", "))
