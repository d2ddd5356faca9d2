"""YAML from other people: one document of plain values, within limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.core.errors import UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ALIASES = 100
MAX_NODES = 20_000
"""Values, once aliases are written out."""
MAX_DIGITS = 4_000
"""Characters of a number: parsing a base-60 number takes quadratic time."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_SURROGATES = re.compile("[\ud800-\udfff]")


class YamlError(Exception):
    """A YAML text that is refused.

    Attributes:
        line: Line of the problem, from 1.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_limited(file: Path, expected: str) -> bytes:
    """Returns the bytes of a file of at most ``MAX_BYTES``.

    Args:
        file: The file.
        expected: Description of the file, for the message if it is missing.

    Raises:
        UserError: When it is missing, unreadable or too large.
    """
    try:
        with file.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; expected {expected}") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{file}: larger than {MAX_BYTES} bytes; expected {expected}")
    return raw


def compose(text: str) -> tuple[yaml.SafeLoader, yaml.Node | None]:
    """Returns the root node of a text's only document, and the loader that constructs its values.

    Raises:
        YamlError: For invalid YAML, tags, recursive aliases, and texts beyond the limits above.
    """
    try:
        _check_events(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        what = f"character U+{int(error.character):04X}: {error.reason}"
        raise YamlError(line, f"not valid YAML: {what}") from None
    except (ValueError, OverflowError) as error:
        # PyYAML raises these for \U escapes beyond Unicode and for huge version numbers.
        raise YamlError(1, f"not valid YAML: {error}") from None
    if node is not None:
        _check_nodes(node)
    return loader, node


def load(text: str) -> Any:
    """Returns a text's only document as plain values, ``None`` if it is empty.

    Raises:
        YamlError: As ``compose``, and for an invalid value such as the date 2024-99-99.
    """
    loader, node = compose(text)
    if node is None:
        return None
    for one, _ in _walk(node):
        if isinstance(one, yaml.ScalarNode) and _SURROGATES.search(one.value):
            raise YamlError(one.start_mark.line + 1, "holds half of a surrogate pair")
    try:
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None
    except (ValueError, OverflowError) as error:
        raise YamlError(1, f"not valid YAML: {error}") from None


def _syntax_error(error: yaml.MarkedYAMLError) -> YamlError:
    mark = error.problem_mark or error.context_mark
    what = " ".join(str(error.problem or error).split())
    return YamlError(mark.line + 1 if mark else 1, f"not valid YAML: {what}")


def _check_events(text: str) -> None:
    """Refuses tags, and documents beyond the limits, before any tree is built."""
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
            raise YamlError(event.start_mark.line + 1 if event.start_mark else 1, refused)


def _check_nodes(root: yaml.Node) -> None:
    """Refuses aliases that expand without bound, and numbers that take too long to parse."""
    for n, (node, parents) in enumerate(_walk(root), 1):
        refused = ""
        if id(node) in parents:
            refused = "an alias refers to what holds it"
        elif len(parents) > MAX_DEPTH or n > MAX_NODES:
            refused = f"aliases expand to more than {MAX_NODES} values or {MAX_DEPTH} levels"
        elif node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            refused = f"a number of {len(node.value)} characters; quote it if it is text"
        if refused:
            raise YamlError(node.start_mark.line + 1, refused)


def _walk(root: yaml.Node) -> Iterator[tuple[yaml.Node, tuple[int, ...]]]:
    """Yields each node, once per reference, with the ids of the nodes that contain it."""
    waiting: list[tuple[yaml.Node, tuple[int, ...]]] = [(root, ())]
    while waiting:
        node, parents = waiting.pop()
        yield node, parents
        inside = (*parents, id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, inside) for item in reversed(node.value)]
        elif isinstance(node, yaml.MappingNode):
            waiting += [(part, inside) for pair in reversed(node.value) for part in reversed(pair)]
