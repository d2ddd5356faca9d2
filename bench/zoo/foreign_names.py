"""Names of parameters in other people's files, and of what those files hold beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.core.errors import UserError

WRAPPERS = ("module.", "model.", "_orig_mod.", "net.")
"""Prefixes from DataParallel, torch.compile and habit; stripped from every name, repeatedly."""


@dataclass(frozen=True)
class Rule:
    """A pattern in other people's parameter names, and its replacement in ours.

    Attributes:
        pattern: Its named groups may be used in ``ours``. The group ``from_one`` is a number that
            counts from 1 there and from 0 here.
        ours: The replacement, with ``{group}`` for the match of a group.
        known_from: Projects that use these names.
    """

    pattern: str
    ours: str
    known_from: str

    def apply(self, name: str) -> str:
        """Returns a name with every match of the pattern replaced."""
        return re.sub(self.pattern, self._fill, name)

    def _fill(self, match: re.Match[str]) -> str:
        groups = match.groupdict()
        if "from_one" in groups:
            groups["from_one"] = str(int(groups["from_one"]) - 1)
        return self.ours.format(**groups)


RULES = (
    Rule(
        r"^layer(?P<from_one>[1-9]\d*)\.(?P<block>\d+)\.",
        "stages.{from_one}.{block}.",
        "torchvision, kuangliu/pytorch-cifar, akamaster/pytorch_resnet_cifar10",
    ),
    Rule(
        r"^block(?P<from_one>[1-9]\d*)\.layer\.(?P<block>\d+)\.",
        "stages.{from_one}.{block}.",
        "xternalz/WideResNet-pytorch, yaodongyu/TRADES",
    ),
    Rule(r"(?P<before>^|\.)(?:bn|gn)(?P<k>\d)\.", "{before}norm{k}.", "all of the above"),
    Rule(r"\.downsample\.", ".shortcut.", "torchvision"),
    Rule(r"\.convShortcut\.", ".shortcut.", "xternalz/WideResNet-pytorch, yaodongyu/TRADES"),
    Rule(r"\.norm\.(?P<k>\d+)\.", ".branches.{k}.", "UniSerj/Random-Norm-Aggregation"),
    Rule(r"^bn\.", "norm.", "locuslab/robust_overfitting, RobustBench's PreActResNet"),
    Rule(r"^(?:linear|classifier)\.", "fc.", "kuangliu, akamaster, VGGs"),
)
"""Applied to every name in this order; names of this project do not change."""

UNUSED = {
    r"^sub_block1\.": "TRADES' WideResNet makes a second first block, and calls it nowhere",
    r"(?:^|\.)total_(?:ops|params)$": "thop counts operations and parameters in them",
}
"""Entries that no forward pass uses, by pattern, and how that is known. They are left out."""


def parse_renames(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Reads ``OLD=NEW`` pairs of prefixes; NEW may be empty.

    Raises:
        UserError: When there is no ``=``, or nothing before it.
    """
    pairs = []
    for text in texts:
        old, equals, new = text.partition("=")
        if not equals or not old:
            raise UserError(
                f"--rename: expected OLD=NEW, two prefixes of names, found '{text}'; "
                "to remove a prefix, write PREFIX="
            )
        pairs.append((old, new))
    return pairs


def our_names(theirs: Sequence[str], renames: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """Translates parameter names; returns ``{our name: their name}``.

    First ``WRAPPERS`` are stripped, then the renames replace prefixes, one after the other. A
    number that all names begin with is stripped (the network's place behind a layer that
    normalizes images). Then ``RULES`` apply.

    Raises:
        UserError: When a rename matches no name, or two names become one.
    """
    plain = {name: _unwrapped(name) for name in theirs}
    for old, new in renames:
        if not any(name.startswith(old) for name in plain.values()):
            some = ", ".join(list(plain.values())[:5])
            raise UserError(f"--rename {old}={new}: no name begins with '{old}'; names are {some}")
        plain = {
            name: new + now.removeprefix(old) if now.startswith(old) else now
            for name, now in plain.items()
        }
    plain = _without_position(plain)
    found: dict[str, str] = {}
    for name, now in plain.items():
        for rule in RULES:
            now = rule.apply(now)
        if now in found:
            raise UserError(
                f"'{found[now]}' and '{name}' both become '{now}'; tell them apart with --rename"
            )
        found[now] = name
    return found


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def _without_position(plain: Mapping[str, str]) -> dict[str, str]:
    """Strips a number that all names begin with, as in ``1.conv1.weight``."""
    found = dict(plain)
    while True:
        first = {now.partition(".")[0] for now in found.values()}
        if len(first) != 1 or not first.pop().isdigit():
            return found
        found = {name: _unwrapped(now.partition(".")[2]) for name, now in found.items()}
        if not all(found.values()):
            return dict(plain)


@dataclass(frozen=True)
class LeftOut:
    """Entries of a file that are not imported.

    Attributes:
        names: In the file.
        why: Why they are not needed, or who said so.
    """

    names: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        """Returns a sentence for the card."""
        some = ", ".join(shown(name) for name in self.names[:3]) + ", ..." * (len(self.names) > 3)
        return f"Left out {len(self.names)} entries ({some}): {self.why}."


def left_out(names: Sequence[str], drops: Sequence[str]) -> list[LeftOut]:
    """Returns the entries that no pass uses, and those that match a pattern of the user's.

    Args:
        names: All entries of the file.
        drops: Patterns as in a shell (``aux_*``), for names with or without their wrappers.

    Raises:
        UserError: When a pattern matches no name.
    """
    found, rest = [], list(names)
    for pattern in drops:
        matched = [
            n for n in rest if fnmatchcase(n, pattern) or fnmatchcase(_unwrapped(n), pattern)
        ]
        if not matched:
            some = ", ".join(shown(name) for name in rest[:5])
            raise UserError(f"--drop {pattern}: no name matches; names are {some}")
        found.append(LeftOut(tuple(matched), f"--drop {pattern}"))
        rest = [name for name in rest if name not in matched]
    for pattern, why in UNUSED.items():
        matched = [name for name in rest if re.search(pattern, _unwrapped(name))]
        if matched:
            found.append(LeftOut(tuple(matched), why))
        rest = [name for name in rest if name not in matched]
    return found


def shown(text: str) -> str:
    """Returns a foreign name, escaped if it could disturb a terminal."""
    return text if text.isprintable() else ascii(text)
