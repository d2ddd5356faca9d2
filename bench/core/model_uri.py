"""Names of models: a checkpoint's name, or a URI ``SCHEME:PATH?KEY=VALUE&...``.

This is the syntax only; ``bench.zoo.sources`` opens models.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, quote

from bench.core.errors import UserError, did_you_mean
from bench.core.model_spec import Size, as_size
from bench.core.spec import parse_number

MAX_LENGTH, MAX_KEYS = 1_000, 32
_SHOWN = 200
_SCHEME = re.compile(r"[a-z][a-z0-9]*")
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True)
class ModelUri:
    """The parts of a model's URI.

    Attributes:
        text: The whole URI.
        scheme: The part before the first colon.
        path: The part from there to the first ``?``, not decoded.
        query: Values by key, decoded.
    """

    text: str
    scheme: str
    path: str
    query: dict[str, str]

    def only(self, known: Collection[str]) -> None:
        """Raises ``UserError`` for a key that is not among the scheme's known keys."""
        for key in self.query:
            if key not in known:
                raise UserError(f"{self.text}: unknown key '{key}'{did_you_mean(key, known)}")

    def whole(self, key: str) -> int | None:
        """Returns the value of a key as a whole number > 0; ``None`` if it is not given."""
        value = self.query.get(key)
        if value is None:
            return None
        if not re.fullmatch(r"[1-9]\d{0,8}", value):
            raise UserError(f"{self.text}: {key}: expected a whole number, found '{value}'")
        return int(value)

    def size(self, key: str = "size") -> Size | None:
        """Returns height and width, as ``32`` or ``24x40``; ``None`` if they are not given."""
        value = self.query.get(key)
        if value is None:
            return None
        match = re.fullmatch(r"([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?", value)
        if match is None:
            raise UserError(
                f"{self.text}: {key}: expected a whole number, or HEIGHTxWIDTH, found '{value}'"
            )
        return as_size(int(match[1]), int(match[2] or match[1]))

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Returns the comma-separated numbers of a key, one per channel; ``None`` if not given."""
        value = self.query.get(key)
        if value is None:
            return None
        try:
            return tuple(parse_number(part.strip()) for part in value.split(","))
        except ValueError as error:
            raise UserError(f"{self.text}: {key}: {error}; separate channels by commas") from None

    def flag(self, key: str) -> bool | None:
        """Returns the value of a key as a boolean; ``None`` if it is not given."""
        value = self.query.get(key)
        if value is not None and value.lower() not in _YES + _NO:
            raise UserError(f"{self.text}: {key}: expected true or false, found '{value}'")
        return None if value is None else value.lower() in _YES


def is_uri(name: str) -> bool:
    """Returns whether a model's name is a URI; names of checkpoints contain no colon."""
    return ":" in name


def parse_uri(text: str) -> ModelUri:
    """Parses a URI.

    Raises:
        UserError: In one line, if it is not a valid URI.
    """
    shown = text[:_SHOWN] if text.isprintable() else ascii(text)[:_SHOWN]
    scheme, _, rest = text.partition(":")
    path, mark, query = rest.partition("?")
    if len(text) > MAX_LENGTH or not text.isprintable() or not _SCHEME.fullmatch(scheme):
        raise UserError(
            f"'{shown}': expected a checkpoint's name, or SCHEME:PATH?KEY=VALUE of at most "
            f"{MAX_LENGTH:,} printable characters; see: rbench list schemes"
        )
    if not path:
        raise UserError(f"'{shown}': expected a name or path after '{scheme}:'")
    try:
        pairs = parse_qsl(query, True, strict_parsing=bool(mark), max_num_fields=MAX_KEYS)
    except ValueError:
        raise UserError(f"'{shown}': expected KEY=VALUE&KEY=VALUE after '?'") from None
    keys = [key for key, _ in pairs]
    for key, value in pairs:
        if keys.count(key) > 1 or not (key + value).isprintable():
            raise UserError(f"'{shown}': key {key!a} is given twice, or is not printable")
    return ModelUri(text, scheme, path, dict(pairs))


def with_identity(name: str, identity: str) -> str:
    """Returns a ``python:`` URI with the text by which its author tells its weights from others.

    Raises:
        ValueError: For any other name: its own weights tell it.
    """
    if not name.startswith("python:"):
        raise ValueError("identity is for python: models; others are told apart by their weights")
    return f"{name}{'&' if '?' in name else '?'}identity={quote(identity, safe='')}"


def canonical_name(name: str) -> str:
    """Returns a model's name as stored in cells: ``zoo:NAME`` becomes ``NAME``."""
    plain = name.removeprefix("zoo:")
    return name if is_uri(plain) or "?" in plain else plain


def short_name(name: str) -> str:
    """Returns a model's name for tables: URIs are shortened, other names stay."""
    if not is_uri(name):
        return name
    try:
        uri = parse_uri(name)
    except UserError:
        return name
    if uri.scheme == "zoo":
        return uri.path
    path, query = uri.path, uri.query
    last = PurePosixPath(path).name
    words = {
        "torchvision": lambda: f"{path} (torchvision{_variant(query.get('weights'))})",
        "timm": lambda: f"{path} (timm{_variant('none' if not uri.flag('pretrained') else '')})",
        "robustbench": lambda: f"{path} ({_of_robustbench(query)})",
        "hf": lambda: f"{'/'.join(path.split('/')[:2])} (hf)",
        "file": lambda: f"{PurePosixPath(path).stem if query else last} (file)",
        "python": lambda: f"{path.rpartition(':')[2]} ({path.partition(':')[0]})",
    }
    try:
        return words[uri.scheme]() if uri.scheme in words else name
    except UserError:
        return name


def _variant(weights: str | None) -> str:
    """Returns the name of the weights unless they are the default ones."""
    if weights is None or weights.lower() == "none":
        return " random"
    return "" if weights in ("", "DEFAULT") else f" {weights}"


def _of_robustbench(query: dict[str, str]) -> str:
    found = ["RobustBench", query.get("dataset", ""), query.get("threat", "")]
    return " ".join(filter(None, [*found, "random" * (query.get("weights") == "none")]))
