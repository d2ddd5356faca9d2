"""The content of figures: numbers and texts, without colours and sizes."""

from __future__ import annotations

from dataclasses import dataclass

Values = tuple[float, ...]
Maybe = tuple[float | None, ...]


@dataclass(frozen=True)
class Series:
    """A line with an optional band.

    Attributes:
        label: Name in the legend.
        x: Positions, ascending.
        y: Values; ``None`` leaves a gap.
        low: Lower edge of the band; empty for no band.
        high: Upper edge of the band.
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
        title: Title of the panel; may be empty.
        x_label: Label of the x axis, with its unit.
        y_label: Label of the y axis, with its unit.
        series: The lines; up to eight can be told apart.
        log_x: Whether x is on a logarithmic scale.
        ticks: Positions of the labels of x; empty for automatic ones.
        y_range: Ends of the y axis; ``None`` to fit the data.
        band: Meaning of the bands; empty without bands.
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
        title: Title of the panel; may be empty.
        x_label: What the columns are.
        y_label: What the rows are.
        columns: Names of the columns.
        rows: Names of the rows.
        values: Numbers row by row; ``None`` where there is no number.
        value_label: The quantity and its unit.
        value_range: Ends of the colour scale.
        decimals: Decimals of the numbers.
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
        title: Title of the panel; may be empty.
        x_label: Label of the x axis, with its unit.
        y_label: Label of the y axis, with its unit, for example share of images in percent.
        edges: Edges of the bins, one more than there are bins.
        series: Pairs of a name and the values of all bins.
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
        title: Title of the panel; may be empty.
        x_label: Label of the x axis, with its unit.
        y_label: Label of the y axis, with its unit.
        z_label: Label of the colour bar, with its unit.
        x: Grid positions, ascending.
        y: Grid positions, ascending.
        z: Values, one row for each y.
        z_range: Ends of the colour scale; ``None`` to fit the data.
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
    """A picture: the bytes of a PNG file, and a caption of one or two short lines."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Tiles:
    """Pictures in a grid.

    Attributes:
        title: Title of the panel; may be empty.
        columns: Headings of the columns.
        rows: Pairs of a name and one picture for each column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tile, ...]], ...]


Panel = Curves | Heatmap | Histograms | Surface | Tiles


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Attributes:
        name: Suffix of its file names; empty where a report has only one figure.
        caption: What is shown, on how many images, in full sentences.
        panels: Panels, drawn side by side in as many rows as needed.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]
