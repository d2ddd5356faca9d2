"""What adversarial examples that others made prove about a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from bench.core.result import Cluster, Row
from bench.core.threat import ThreatModel
from bench.metrics import Estimate, clean_accuracy, percent, robust_accuracy
from bench.untrusted.escape import one_line

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5
"""Images that are not valid, and are described."""

_STATUS = {
    "beyond_eps": "beyond eps: its distance is {distance:.6g}",
    "out_of_box": "outside the box [0, 1]",
    "not_finite": "NaN or infinite",
}


@dataclass(frozen=True, repr=False)
class ExamplesVerdict:
    """The judgement of adversarial examples, image by image.

    Attributes:
        rows: One for each image, in the order of the images. ``status`` is the verifier's word on
            the example: ``ok`` where it is valid. Otherwise the clean image is scored in its place,
            as it is where the model is wrong on it already.
        rounded: The same of the examples as an 8-bit file would give them back.
        distances: Of each example from its image in the threat model's norm; infinite where it is
            not finite.
        threat_model: The ball.
        tolerance: How far beyond box or ball an example may lie, in words.
        cluster: What is independent of what, for intervals.
        n_draws: Fresh draws that score each image; 1 for a deterministic model.
        batch_size: Images of the fixed batches in which a batch-dependent model is scored; ``None``
            for a model that takes each image alone.
        on_grid: Whether the examples are on the grid of 8-bit images already.
        notes: How a file was read, what it says itself, and what the probe found.
    """

    rows: tuple[Row, ...]
    rounded: tuple[Row, ...]
    distances: tuple[float, ...]
    threat_model: ThreatModel
    tolerance: str
    cluster: Cluster
    n_draws: int = 1
    batch_size: int | None = None
    on_grid: bool = False
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Returns numbers of images.

        ``images``; ``finite``; ``in_box``: of these; ``valid``: of these, within eps; ``wrong``:
        valid and misclassified (by most draws, where the model is stochastic); ``broken``: of
        these, right on the clean image; ``wrong_beyond_eps``: misclassified, but not within eps;
        ``lost``: wrong, but no more in 8 bits, as they leave the ball (``lost_beyond_eps``) or are
        classified rightly (``lost_right_again``).
        """
        status = [row.status for row in self.rows]
        finite = len(status) - status.count("not_finite")
        in_box = finite - status.count("out_of_box")
        wrong = [_proves(row) for row in self.rows]
        pairs = zip(wrong, self.rounded, strict=True)
        lost = [after for before, after in pairs if before and not _proves(after)]
        out = sum(row.status != "ok" for row in lost)
        return {
            "images": len(status),
            "finite": finite,
            "in_box": in_box,
            "valid": status.count("ok"),
            "wrong": sum(wrong),
            "broken": sum(_proves(row) and row.clean_pred == row.label for row in self.rows),
            "wrong_beyond_eps": sum(
                row.status == "beyond_eps" and row.adv_pred != row.label for row in self.rows
            ),
            "lost": len(lost),
            "lost_beyond_eps": out,
            "lost_right_again": len(lost) - out,
        }

    @property
    def all_valid(self) -> bool:
        """Whether every example is finite, in the box and within eps."""
        return all(row.status == "ok" for row in self.rows)

    def clean_accuracy(self) -> Estimate:
        """Estimates the accuracy on the clean images."""
        return clean_accuracy(self.rows, self.cluster)

    def robust_accuracy(self) -> Estimate:
        """Estimates what the examples prove: the model's robust accuracy is at most that."""
        return robust_accuracy(self.rows, self.cluster)

    def robust_accuracy_8bit(self) -> Estimate:
        """Estimates the same of the examples as an 8-bit file would give them back."""
        return robust_accuracy(self.rounded, self.cluster)

    def table(self) -> pd.DataFrame:
        """Returns one line for each image: its row, and its status and prediction in 8 bits."""
        import pandas as pd

        table = pd.DataFrame([asdict(row) for row in self.rows])
        table["distance"] = self.distances
        unused = ["forwards", "backwards", "choice"]
        table["status_8bit"] = [row.status for row in self.rounded]
        table["adv_pred_8bit"] = [row.adv_pred for row in self.rounded]
        return table.drop(columns=unused).set_index("index")

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it as plain values, as ``rbench verify --json`` prints them."""
        numbers = {
            "clean_accuracy": self.clean_accuracy(),
            "robust_accuracy_at_most": self.robust_accuracy(),
            "robust_accuracy_at_most_8bit": self.robust_accuracy_8bit(),
        }
        return {
            "threat_model": self.threat_model.model_dump(mode="json"),
            "tolerance": self.tolerance,
            "n_draws": self.n_draws,
            "batch_size": self.batch_size,
            "counts": self.counts(),
            **{name: asdict(number) for name, number in numbers.items()},
            "notes": list(self.notes),
            "images": [
                {key: None if value == float("inf") else value for key, value in line.items()}
                for line in self.table().reset_index().to_dict("records")
            ],
        }

    def lines(self) -> list[tuple[str, str]]:
        """Returns what is printed: what was counted or estimated, and its number."""
        n = self.counts()
        eps = f"within {self.threat_model.describe()}"
        found = [
            ("images", str(n["images"])),
            ("finite", str(n["finite"])),
            ("... and in the box [0, 1]", str(n["in_box"])),
            (f"... and {eps}: valid", str(n["valid"])),
            (f"... and wrong on the model{self._by()}", str(n["wrong"])),
            ("... and right on the clean image: broken", str(n["broken"])),
        ]
        if n["wrong_beyond_eps"]:
            found.append(("wrong, but beyond eps: not counted", str(n["wrong_beyond_eps"])))
        lost = str(n["lost"])
        if n["lost"]:
            lost += f" ({n['lost_right_again']} right again, {n['lost_beyond_eps']} beyond eps)"
        found.append(
            ("wrong, but lost in 8-bit storage", "none: on its grid" * self.on_grid or lost)
        )
        found.append((f"largest distance ({self.threat_model.norm})", f"{self._largest():.6g}"))
        found.append(("clean accuracy in %", _shown(self.clean_accuracy())))
        found.append(("robust accuracy in %, at most", _shown(self.robust_accuracy())))
        if n["lost"]:
            eight = self.robust_accuracy_8bit()
            found.append(("robust accuracy in %, at most, in 8 bits", _shown(eight)))
        return found

    def remarks(self) -> Iterator[str]:
        """Yields what stands below the numbers, a sentence each."""
        yield f"tolerance of box and ball: {self.tolerance}; scored in float32"
        if self.n_draws > 1:
            yield f"stochastic: mean score over {self.n_draws} fresh draws"
        if self.batch_size is not None:
            yield f"scored in fixed batches of {self.batch_size}, which intervals count as one"
        yield from self.notes
        level = self.threat_model.eps * 255
        rounding = self.counts()["lost_beyond_eps"] or (self.on_grid and not self.all_valid)
        if rounding and self.threat_model.facts.per_pixel and abs(level - round(level)) > 1e-6:
            yield f"eps is {level:.6g} levels of 8-bit images: rounding can leave the ball"
        pairs = zip(self.rows, self.distances, strict=True)
        bad = [(row, distance) for row, distance in pairs if row.status != "ok"]
        for row, distance in bad[:SHOWN]:
            why = _STATUS.get(row.status, row.status).format(distance=distance)
            yield f"image {row.index}: {why}"
        if len(bad) > SHOWN:
            yield f"and {len(bad) - SHOWN} more images that are not valid"

    def __repr__(self) -> str:
        text = tabulate(self.lines(), tablefmt="plain", disable_numparse=True)
        return "\n\n".join((text, "\n".join(one_line(text) for text in self.remarks())))

    def _largest(self) -> float:
        """Returns the largest distance of a finite example from its image."""
        return max((one for one in self.distances if math.isfinite(one)), default=0.0)

    def _by(self) -> str:
        return " (most draws)" if self.n_draws > 1 else ""


def _proves(row: Row) -> bool:
    return row.status == "ok" and row.adv_pred != row.label


def _shown(number: Estimate) -> str:
    return " ".join(filter(None, (percent(number.value), number.brackets())))
