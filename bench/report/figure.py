"""What a figure is before it is drawn: numbers and words, no colours and no sizes."""

from __future__ import annotations

from dataclasses import dataclass

Values = tuple[float, ...]
Maybe = tuple[float | None, ...]


@dataclass(frozen=True)
class Series:
    """A line with an optional band.

    Attributes:
        label: In the legend.
        x: Positions, ascending.
        y: Values; ``None`` leaves a gap.
        low: Lower edge of the band, empty for none.
        high: Upper edge.
    """

    label: str
    x: Values
    y: Maybe
    low: Maybe = ()
    high: Maybe = ()


@dataclass(frozen=True)
class Curves:
    """Lines over a common axis.

    Attributes:
        title: Of the panel; may be empty.
        x_label: With its unit.
        y_label: With its unit.
        series: The lines; at most eight are told apart.
        log_x: Whether x is spaced by its logarithm.
        ticks: Where x is labelled; empty leaves that to the drawing.
        y_range: Ends of the y axis, ``None`` to fit the data.
        band: What the bands are, for the caption; empty without any.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    ticks: Values = ()
    y_range: tuple[float, float] | None = None
    band: str = ""


@dataclass(frozen=True)
class Heatmap:
    """A matrix of numbers, each written into its square.

    Attributes:
        title: Of the panel; may be empty.
        x_label: What the columns are.
        y_label: What the rows are.
        columns: Their names.
        rows: Their names.
        values: Row by row; ``None`` where there is no number.
        value_label: What the numbers are, with their unit.
        value_range: Ends of the colours.
        decimals: Of the numbers written.
    """

    title: str
    x_label: str
    y_label: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[Maybe, ...]
    value_label: str
    value_range: tuple[float, float]
    decimals: int = 1


@dataclass(frozen=True)
class Histograms:
    """Several distributions over the same bins.

    Attributes:
        title: Of the panel; may be empty.
        x_label: With its unit.
        y_label: With its unit, for example share of images in percent.
        edges: Of the bins, one more than there are values.
        series: Pairs of a name and a value for each bin.
    """

    title: str
    x_label: str
    y_label: str
    edges: Values
    series: tuple[tuple[str, Values], ...]


@dataclass(frozen=True)
class Surface:
    """A function of two variables, drawn as filled contours with a colour bar.

    Attributes:
        title: Of the panel; may be empty.
        x_label: With its unit.
        y_label: With its unit.
        z_label: With its unit.
        x: Grid positions, ascending.
        y: Grid positions, ascending.
        z: Values, one row for each y.
        z_range: Ends of the colours, ``None`` to fit the data.
    """

    title: str
    x_label: str
    y_label: str
    z_label: str
    x: Values
    y: Values
    z: tuple[Values, ...]
    z_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Tile:
    """A picture: a PNG file's bytes, and a caption of one or two short lines."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Tiles:
    """Pictures in a grid.

    Attributes:
        title: Of the panel; may be empty.
        columns: Headings.
        rows: Pairs of a name and one picture for each column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tile, ...]], ...]


Panel = Curves | Heatmap | Histograms | Surface | Tiles


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    Attributes:
        name: Of its files, after the report's; empty where a report has only one.
        caption: What is seen, on how many images, in full sentences.
        panels: Drawn side by side, and below each other when there are many.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]
