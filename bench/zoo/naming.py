"""From the names that others give to parameters to ours.

Nothing is guessed from shapes or from the order of a file: a name that no rule knows stays as it
is, and loading then lists it as unexpected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.core.errors import UserError

WRAPPERS = ("module.", "model.", "_orig_mod.", "net.")
"""What DataParallel, torch.compile and habit put before every name; taken off, also repeatedly."""


@dataclass(frozen=True)
class Rule:
    """A pattern that is looked for in a name, and what stands in its place.

    Attributes:
        pattern: Named groups may be used in ``ours``. The group ``from_one`` is a number that
            counts from 1 there and from 0 here.
        ours: The replacement, with ``{group}`` for what a group has found.
        known_from: Whose names these are.
    """

    pattern: str
    ours: str
    known_from: str

    def apply(self, name: str) -> str:
        """Returns a name with every occurrence of the pattern replaced."""
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
    Rule(r"^(?:linear|classifier)\.", "fc.", "kuangliu, akamaster, VGGs"),
)
"""Applied in this order to every name; names of this project pass unchanged."""


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
                "to take a prefix off, write PREFIX="
            )
        pairs.append((old, new))
    return pairs


def our_names(theirs: Sequence[str], renames: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """Returns a name of ours for each of theirs, as ``{ours: theirs}``.

    First ``WRAPPERS`` are taken off, then the renames replace prefixes, each in its turn, then
    ``RULES`` apply.

    Raises:
        UserError: When a rename's old prefix begins no name, or two names become one.
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
