"""Writes the tables of docs/suite.md from the models of a suite: ``python -m tools.suite_keys``."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bench.core.cell import DataSpec
from bench.core.threat import ThreatModel
from bench.suite.entry import AnalysisEntry, PanelEntry, ReportEntry
from bench.suite.report_kinds import REPORT_KINDS
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec, SurrogateEntry

PAGE = Path(__file__).parents[1] / "docs" / "suite.md"
BEGIN, END = "<!-- written by python -m tools.suite_keys -->", "<!-- end -->"

SECTIONS: dict[type[BaseModel], str] = {
    SuiteSpec: "Top level",
    DataSpec: "`data`",
    ThreatModel: "`threat_model`",
    ModelEntry: "An entry of `models`",
    SurrogateEntry: "`surrogate` of a model",
    AttackEntry: "An entry of `attacks`",
    AnalysisEntry: "An entry of `analyses`",
    ReportEntry: "An entry of `reports`",
    PanelEntry: "An entry of `panels`",
}
"""The models in the order of the page, each with its heading."""

NOT_IN_A_FILE = {"varied", "union"}
"""Fields that only rbench fills in."""


def tables() -> str:
    """Returns the sections of all models, then that of the kinds of report."""
    return "\n".join([*map(_section, SECTIONS), _kinds()])


def _section(model: type[BaseModel]) -> str:
    intro = inspect.cleandoc(model.__doc__ or "").split("\n\nAttributes:")[0]
    said = descriptions(model)
    rows = [
        f"| `{name}` | {_values(field)} | {_default(field)} | {_cell(said[name])} |"
        for name, field in model.model_fields.items()
        if name not in NOT_IN_A_FILE
    ]
    head = "| key | value | default | meaning |\n| --- | --- | --- | --- |"
    return f"### {SECTIONS[model]}\n\n{_prose(intro)}\n\n{head}\n" + "\n".join(rows) + "\n"


def _kinds() -> str:
    rows = [
        f"| `{name}` | {kind.summary} | {_cell(kind.wants(name)) or 'nothing more'} |"
        for name, kind in REPORT_KINDS.items()
    ]
    head = "| kind | what it shows | what the suite must have |\n| --- | --- | --- |"
    return f"### Kinds of report\n\n{head}\n" + "\n".join(rows) + "\n"


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Returns what the docstrings of a model and its bases say of each field."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        _, section, listed = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        if section:
            items = re.split(r"^ {4}(\w+): ", listed, flags=re.M)[1:]
            found |= {n: " ".join(t.split()) for n, t in zip(items[::2], items[1::2], strict=True)}
    return found


def _prose(text: str) -> str:
    text = text.replace("``", "`")
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", text)


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if value is PydanticUndefined and field.default_factory is not None:
        value = field.default_factory()  # type: ignore[call-arg]
    if value and isinstance(value, tuple) and isinstance(value[0], ReportEntry):
        return f"`[{value[0].kind}]`"
    if value is None or value in ("", (), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: FieldInfo) -> str:
    least = [f"at least {m.ge}" for m in field.metadata if isinstance(m, Ge)]
    least += ["at least one" for m in field.metadata if isinstance(m, MinLen)]
    inner = [a for a in _arguments(field.annotation) if get_origin(a) is Annotated]
    least += [f"at least {m.ge}" for a in inner for i in get_args(a)[1:] for m in _ge(i)]
    return ", ".join([_type(field.annotation), *least])


def _ge(info: object) -> Iterator[Ge]:
    for one in info.metadata if isinstance(info, FieldInfo) else ():
        if isinstance(one, Ge):
            yield one


def _arguments(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
        return "number or fraction, such as 8/255" if annotation is float else _type(annotation)
    if given := [one for one in _arguments(annotation) if one is not type(None)]:
        return " or ".join(map(_type, given))
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inside)
    if origin is tuple:
        return f"list of {_plural(_type(inside[0]))}"
    if origin is dict:
        return "mapping"
    if annotation in SECTIONS:
        return "mapping, see below"
    names: dict[Any, str] = {str: "text", int: "whole number", bool: "`true` or `false`"}
    return names.get(annotation, "number or fraction, such as 8/255")


def _plural(text: str) -> str:
    if text.startswith("mapping"):
        return "entries, see below"
    return {"text": "texts", "whole number": "whole numbers"}.get(text, text)


def main() -> None:
    """Writes the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
