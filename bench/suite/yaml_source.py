"""Safe YAML with a line for every key, so that every later error can say where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.core.errors import UserError

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ALIASES = 100
MAX_NODES = 20_000
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
    """One thing that is wrong, and the key path that it is wrong at."""

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

    Tags, recursive aliases and more than ``MAX_BYTES``, ``MAX_DEPTH``, ``MAX_ALIASES`` or
    ``MAX_NODES`` (after aliases are expanded) are refused. Keys given twice, keys that are not
    text, and numbers that are not finite are noted as problems.

    Raises:
        UserError: When the file cannot be read at all, with file and line.
    """
    text = _read_text(file)
    source = YamlSource(file)
    try:
        _check_events(file, text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise UserError(f"{file}:1: the file is empty")
        source.value = _Builder(source, loader).build(node, (), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UserError(f"{file}:{line}: not valid YAML: {error.problem or error}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        what = f"character U+{int(error.character):04X}: {error.reason}"
        raise UserError(f"{file}:{line}: not valid YAML: {what}") from None
    except (ValueError, OverflowError) as error:
        # PyYAML lets these escape from \U escapes beyond Unicode and from oversized versions.
        raise UserError(f"{file}:1: not valid YAML: {error}") from None
    return source


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; expected a YAML file") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{file}: larger than {MAX_BYTES} bytes; a suite is a short text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}:{line}: not UTF-8 text ({error.reason})") from None


def _check_events(file: Path, text: str) -> None:
    """Refuses what could be unsafe or endless before any tree is built."""
    depth = aliases = nodes = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        documents += isinstance(event, yaml.DocumentStartEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        refused = ""
        if documents > 1:
            refused = "expected one YAML document, found a second; remove the '---'"
        elif aliases > MAX_ALIASES:
            refused = f"more than {MAX_ALIASES} aliases; write the values out"
        elif nodes > MAX_NODES:
            refused = f"more than {MAX_NODES} values"
        elif depth > MAX_DEPTH:
            refused = f"nested deeper than {MAX_DEPTH} levels"
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            refused = f"the tag '{event.tag}' is not allowed; write a plain value"
        if refused:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise UserError(f"{file}:{line}: {refused}")


class _Builder:
    """Turns nodes into values, noting where each stands."""

    def __init__(self, source: YamlSource, loader: yaml.SafeLoader) -> None:
        self.source = source
        self.loader = loader
        self.n_built = 0

    def build(self, node: yaml.Node, path: KeyPath, parents: tuple[int, ...]) -> object:
        """Returns the node's value; ``parents`` are the ids of the nodes that hold it."""
        self.n_built += 1
        refused = ""
        if id(node) in parents:
            refused = "an alias refers to what holds it"
        elif len(path) > MAX_DEPTH or self.n_built > MAX_NODES:
            refused = f"aliases expand to more than {MAX_NODES} values or {MAX_DEPTH} levels"
        if refused:
            raise UserError(f"{self.source.file}:{node.start_mark.line + 1}: {refused}")
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        self._note(path, node, text)
        inside = (*parents, id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i), inside) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, inside)
        return self._scalar(node, path)

    def _note(self, path: KeyPath, node: yaml.Node, text: str) -> None:
        at = node.start_mark
        self.source.marks[path] = Mark(at.line + 1, at.column + 1, text)

    def _mapping(
        self, node: yaml.MappingNode, path: KeyPath, parents: tuple[int, ...]
    ) -> dict[str, object]:
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
            result[key] = self.build(value_node, child, parents)
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
