"""Safe YAML with a line for every key, so that every later error can say where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.core.errors import UserError
from bench.untrusted.yaml_text import YamlError, compose, read_limited

KeyPath = tuple[str | int, ...]

MAX_INT = 2**63

_PLAIN = "tag:yaml.org,2002:"
_TEXT_TAGS = {_PLAIN + name for name in ("str", "timestamp", "merge", "value")}


@dataclass(frozen=True)
class Mark:
    """Where a key or list item stands (line and column from 1), and its scalar's own text."""

    line: int
    column: int
    text: str = ""


@dataclass(frozen=True)
class Problem:
    """A problem of a suite, and the key path where it lies."""

    path: KeyPath
    message: str


@dataclass
class YamlSource:
    """A YAML file as plain values.

    Attributes:
        file: The file.
        value: Mappings, lists and scalars, as JSON has them.
        marks: Where each key path stands; ``()`` is the whole document.
        problems: Faults that leave the rest readable, such as a key given twice.
    """

    file: Path
    value: object = None
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mark(self, path: KeyPath) -> Mark:
        """Returns where a key path, or the nearest part of it that exists, stands."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(1, 1))

    def describe(self, problem: Problem) -> str:
        """Returns ``file:line: key.path: message``."""
        line = self.mark(problem.path).line
        where = f"{key_path(problem.path)}: " if problem.path else ""
        return f"{self.file}:{line}: {where}{problem.message}"


def key_path(path: KeyPath) -> str:
    """Returns a key path as text, for example ``attacks[1].params.n_iter``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    text = "".join(parts).removeprefix(".")
    return text if text.isprintable() else repr(text)


def read_yaml(file: Path) -> YamlSource:
    """Reads a YAML file of one document with the safe loader, within limits.

    ``bench.untrusted.yaml_text`` refuses tags, recursive aliases, and too many or too deep values.
    Keys given twice, keys that are not text, and numbers that are not finite are
    noted as problems.

    Raises:
        UserError: When the file cannot be read at all, with file and line.
    """
    raw = read_limited(file, "a YAML file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}:{line}: not UTF-8 text ({error.reason})") from None
    source = YamlSource(file)
    try:
        loader, node = compose(text)
    except YamlError as error:
        raise UserError(f"{file}:{error.line}: {error}") from None
    if node is None:
        raise UserError(f"{file}:1: the file is empty")
    source.value = _Builder(source, loader).build(node, ())
    return source


class _Builder:
    """Turns nodes into values, noting where each stands."""

    def __init__(self, source: YamlSource, loader: yaml.SafeLoader) -> None:
        self.source = source
        self.loader = loader

    def build(self, node: yaml.Node, path: KeyPath) -> object:
        """Returns the node's value."""
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        self._note(path, node, text)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._scalar(node, path)

    def _note(self, path: KeyPath, node: yaml.Node, text: str) -> None:
        at = node.start_mark
        self.source.marks[path] = Mark(at.line + 1, at.column + 1, text)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            at = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _TEXT_TAGS:
                shown = f"'{key}'" if isinstance(key, str) else "of this kind"
                message = f"a key {shown} on line {at.line + 1} is not text; quote it"
                self.source.problems.append(Problem(path, message))
                continue
            child = (*path, key)
            if key in result:
                first = self.source.marks[child].line
                message = f"given a second time on line {at.line + 1} (first on line {first})"
                self.source.problems.append(Problem(child, message))
                continue
            result[key] = self.build(value_node, child)
            # The key's own place reads better than its value's, which an alias moves elsewhere.
            self._note(child, key_node, self.source.marks[child].text)
        return result

    def _scalar(self, node: yaml.Node, path: KeyPath) -> object:
        text = str(node.value)
        if node.tag in _TEXT_TAGS:
            if re.search("[\ud800-\udfff]", text):
                self.source.problems.append(Problem(path, "holds half of a surrogate pair"))
                return ""
            return text
        try:
            value: object = self.loader.construct_object(node)
        except ValueError:
            value = None
            self.source.problems.append(Problem(path, "cannot be read as a number; quote it"))
        if isinstance(value, int | float) and not abs(value) < MAX_INT:
            # Past 64 bits and nan have no canonical JSON, so nothing could be identified by them.
            message = f"expected a finite number below 2**63, found {text[:40]}"
            self.source.problems.append(Problem(path, message))
            return 0
        return value
