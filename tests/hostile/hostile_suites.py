"""Suites that mean harm."""

from __future__ import annotations

import json

from hostile_place import SUITE, Cases, Place

CASES = Cases()

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
"""Ten million values in 500 bytes."""
MERGES = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{new}: &{new}\n  <<: [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
"""The same with merge keys, each of which is copied out."""
DEEP = "a: " + "[" * 5_000 + "]" * 5_000
SIXTIES = "a: 1" + ":59" * 100_000
"""An integer to the base of 60, which takes a minute to read."""

TEXTS = {
    "yaml-runs-python": ('a: !!python/object/apply:os.mkdir ["canary"]', "the tag"),
    "yaml-python-name": ("a: !!python/name:os.system", "the tag"),
    "yaml-bomb-of-aliases": (BOMB, "aliases expand to more than"),
    "yaml-bomb-of-merge-keys": (MERGES, "aliases expand to more than"),
    "yaml-too-many-aliases": ("a: &a 1\nb: [" + "*a, " * 200 + "]", "more than 100 aliases"),
    "yaml-alias-of-itself": ("a: &a [*a]", "an alias refers to what holds it"),
    "yaml-too-deep": (DEEP, "nested deeper than 20 levels"),
    "yaml-too-large": ("a: " + "x" * 2_000_000, "larger than 1000000 bytes"),
    "yaml-too-many-values": ("a: [" + "1, " * 30_000 + "]", "more than 20000 values"),
    "yaml-endless-integer": (SIXTIES, "a number of 300001 characters"),
    "yaml-long-integer": ("a: 1" + "0" * 100_000, "a number of 100001 characters"),
    "yaml-two-documents": (SUITE + "---\n" + SUITE, "found a second"),
    "yaml-nul": (SUITE.replace("hostile", "hos\0tile"), "not valid YAML"),
    "yaml-not-utf8": ("suite: \udcff", "not UTF-8"),
}
for _name, (_text, _says) in TEXTS.items():

    def _text_case(place: Place, text: str = _text) -> list[str]:
        arguments = place.suite()
        place.write("suite.yaml", text.encode("utf-8", "surrogateescape"))
        return arguments

    CASES.add(f"suite {_name}", _says)(_text_case)

CHANGES = {
    "name-leaves-reports": ("suite: hostile", "suite: ../../etc", "expected only lower-case"),
    "name-with-line-break": ("suite: hostile", 'suite: "hostile\\n"', "expected only lower-case"),
    "checkpoint-leaves-its-folder": ("[good]", "[../good]", "expected the name of a folder"),
    "checkpoint-absolute": ("[good]", "[/etc]", "expected the name of a folder"),
    "checkpoint-dots": ("[good]", '[".."]', "expected the name of a folder"),
    "checkpoint-runs-code": ("[good]", '["python:os:getcwd"]', "add --trust-code"),
    "checkpoint-hides-code": (
        "[good]",
        '["zoo:python:os:getcwd"]',
        "no such checkpoint",
    ),
    "checkpoint-zoo-leaves": ("[good]", '["zoo:../good"]', "expected the name of a folder"),
    "checkpoint-any-file": (
        "[good]",
        '["file:/etc/passwd?arch=vgg11&norm=bn&dataset=cifar10"]',
        "expected a checkpoint's folder or a file in .safetensors",
    ),
    "checkpoint-of-no-scheme": ("[good]", '["http://x/y"]', "unknown scheme 'http'"),
    "checkpoint-nul": ("[good]", '["go\\0od"]', "one line of printable text"),
    "checkpoint-endless-name": ("[good]", f"[{'x' * 5_000}]", "expected the name of a folder"),
    "data-endless-name": ("npz:data", f"npz:{'x' * 5_000}", "no such file"),
    "data-nul": ("npz:data", "npz:\\0data", "data"),
    "data-nobody's-home": ("npz:data", "npz:~no-such-user/data", "no such file"),
    "label-with-terminal-codes": (
        "[good]",
        '[{checkpoint: good, label: "\\e]0;owned\\a"}]',
        "one line of printable text",
    ),
    "published-table-leaves": (
        "[leaderboard, examples]",
        "[{kind: leaderboard, published: ../../../etc/passwd}]",
        "unknown published table",
    ),
    "attack-is-a-module": ("fgsm]\nan", '"torchattacks:__init__"]\nan', "unknown attack"),
    "attack-is-os": ("fgsm]\nan", '"os:system"]\nan', "unknown attack"),
    "endless-each": (
        "[natural, fgsm]",
        "[{attack: fgsm, each: {"
        + ", ".join(f"params.p{i}: [{', '.join(map(str, range(40)))}]" for i in range(9))
        + "}}]",
        "found more than 1000",
    ),
    "eps-not-a-number": ("eps: 0.1", "eps: .nan", "finite number"),
}
for _name, (_old, _new, _says) in CHANGES.items():

    def _change_case(place: Place, old: str = _old, new: str = _new) -> list[str]:
        return place.suite(old, new)

    CASES.add(f"suite {_name}", _says)(_change_case)


@CASES.add("suite label-of-markup", "[/red][link=x] :bomb:", code=0)
def _(place: Place) -> list[str]:
    return place.suite("[good]", '[{checkpoint: good, label: "[/red][link=x] :bomb:"}]')


@CASES.add("suite folder-of-endless-size", "expected a size of at most")
def _(place: Place) -> list[str]:
    return place.data("folder:.?size=" + "9" * 6_000)


@CASES.add("suites list bomb", "aliases expand to more than")
def _(place: Place) -> list[str]:
    place.write("suites/bomb.yaml", BOMB)
    return ["list", "suites"]


@CASES.add("suites list python", "the tag")
def _(place: Place) -> list[str]:
    place.write("suites/python.yaml", TEXTS["yaml-runs-python"][0])
    return ["list", "suites"]


RECIPE = """
name: tiny
model: {arch: resnet20, norm: bn, channels: 1, size: 8, classes: 3, mean: [0.5], std: [0.5]}
dataset: "npz:data.npz"
epochs: 1
batch_size: 64
lr: 0.1
"""
RECIPES = {
    "bomb": (BOMB, "aliases expand to more than"),
    "merge-bomb": (MERGES, "aliases expand to more than"),
    "python": (TEXTS["yaml-runs-python"][0], "the tag"),
    "too-deep": (DEEP, "nested deeper than 20 levels"),
    "too-large": (TEXTS["yaml-too-large"][0], "larger than 1000000 bytes"),
    "alias-of-itself": (RECIPE + "notes: &a [*a]", "an alias refers to what holds it"),
    "endless-integer": (SIXTIES, "a number of 300001 characters"),
    "name-leaves": (RECIPE.replace("tiny", "../tiny"), "name: String should match"),
    "name-absolute": (RECIPE.replace("tiny", "/tmp/tiny"), "name: String should match"),
    "endless-classes": (
        RECIPE.replace("classes: 3", "classes: 1000000000000"),
        "model.classes: Input should be less than or equal to",
    ),
    "endless-pool": (
        RECIPE.replace("norm: bn", f"norm: {{name: rna, pool: {json.dumps(['bn'] * 9_000)}}}"),
        "model.norm.pool: Tuple should have at most",
    ),
}
for _name, (_text, _says) in RECIPES.items():

    def _recipe_case(place: Place, text: str = _text) -> list[str]:
        place.write("recipe.yaml", text)
        return ["train", "recipe.yaml", "--no-compile", "--out", "made", "--device", "cpu"]

    CASES.add(f"recipe {_name}", _says)(_recipe_case)


@CASES.add("norm of an import, a date that is none", "--norm: expected a name")
def _(place: Place) -> list[str]:
    place.write("a.pt", b"")
    return ["zoo", "import", "a.pt", "--arch", "resnet20", "--norm", "2024-99-99", *_OF]


@CASES.add("norm of an import, too deep", "--norm: expected a name")
def _(place: Place) -> list[str]:
    place.write("a.pt", b"")
    return ["zoo", "import", "a.pt", "--arch", "resnet20", "--norm", "[" * 3_000, *_OF]


_OF = ["--dataset", "npz:data.npz"]
