"""A wrong suite is refused with file, line, key path and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.suite.load import load_suite
from bench.suite.resolve import Lookup

GOOD = """\
suite: demo
data: {name: fashion-mnist, limit: 64, seed: 0}
threat_model: {norm: linf, eps: 0.1}
batch_size: 64
models:
  - fmnist-resnet20-bn
  - {checkpoint: fmnist-resnet20-rna-at, protocol: fixed_path, published: {norm: rna}}
attacks:
  - natural
  - {attack: "torchattacks:PGD", label: PGD20, params: {n_iter: 20}, published: pgd20}
reports:
  - {kind: leaderboard, published: rna/table1, where: {model: resnet18}}
"""

# What is replaced in GOOD, by what, and what the message must hold.
MALFORMED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown key": (
        "batch_size: 64",
        "batchsize: 64",
        ("suite.yaml:4: batchsize: unknown key; did you mean 'batch_size'?",),
    ),
    "unknown key of a model": (
        "protocol: fixed_path",
        "protocl: fixed_path",
        ("suite.yaml:7: models[1].protocl: unknown key; did you mean 'protocol'?",),
    ),
    "unknown key of the data": (
        "limit: 64",
        "limt: 64",
        ("suite.yaml:2: data.limt: unknown key; did you mean 'limit'?",),
    ),
    "missing section": ("suite: demo\n", "", ("suite.yaml:1: suite: required, but missing",)),
    "missing key of the data": (
        "name: fashion-mnist, ",
        "",
        ("suite.yaml:2: data.name: required",),
    ),
    "unknown attack": (
        '"torchattacks:PGD"',
        '"torchattacks:PDG"',
        (
            "suite.yaml:10: attacks[1].attack: unknown attack 'torchattacks:PDG'",
            "did you mean 'torchattacks:PGD'?",
        ),
    ),
    "more images than the slice has": (
        "label: PGD20,",
        "label: PGD20, limit: 65,",
        ("suite.yaml:10: attacks[1].limit: expected at most 64: the suite's slice has 64 images",),
    ),
    "unknown attack in short form": (
        "- natural",
        "- naturl",
        ("suite.yaml:9: attacks[0].attack:", "did you mean 'natural'?"),
    ),
    "parameter beside params": (
        "label: PGD20, params: {n_iter: 20}",
        "label: PGD20, n_iter: 20",
        (
            "suite.yaml:10: attacks[1].n_iter: unknown key; a parameter of the attack is written "
            "params: {n_iter: ...}",
        ),
    ),
    "swapped letters": (
        "- fmnist-resnet20-bn\n",
        "- fmnist-resnet20-nb\n",
        ("models[0].checkpoint: unknown", "did you mean 'fmnist-resnet20-bn'?"),
    ),
    "unknown parameter": (
        "{n_iter: 20}",
        "{n_iters: 20}",
        ("suite.yaml:10: attacks[1].params.n_iters: unknown param", "did you mean 'n_iter'?"),
    ),
    "bad parameter": (
        "{n_iter: 20}",
        "{n_iter: many}",
        ("suite.yaml:10: attacks[1].params.n_iter: expected a whole number, found 'many'",),
    ),
    "two bad parameters": (
        "{n_iter: 20}",
        "{n_iter: -1, alfa: 1}",
        ("attacks[1].params.n_iter:", "attacks[1].params.alfa:", "did you mean 'alpha'?"),
    ),
    "attack that cannot serve the norm": (
        "norm: linf, eps: 0.1}",
        "norm: l2, eps: 0.5}",
        ("suite.yaml:10: attacks[1].attack:", "serves norm linf only, found l2"),
    ),
    "unknown data set": (
        "name: fashion-mnist",
        "name: fashion_mnist",
        ("suite.yaml:2: data.name: unknown data set", "did you mean 'fashion-mnist'?"),
    ),
    "empty slice": ("seed: 0}", "offset: 10000}", ("suite.yaml:2: data: the slice holds no",)),
    "unknown checkpoint": (
        "- fmnist-resnet20-bn\n",
        "- fmnist-resnet2-bn\n",
        ("suite.yaml:6: models[0].checkpoint: unknown", "did you mean 'fmnist-resnet20-bn'?"),
    ),
    "checkpoint of another shape": (
        "name: fashion-mnist",
        "name: cifar100",
        (
            "suite.yaml:6: models[0].checkpoint:",
            "1 channel(s), size 28, 10 classes",
            "'cifar100' has 3 channel(s), size 32, 100 classes",
        ),
    ),
    "unknown report": (
        "kind: leaderboard",
        "kind: leaderbord",
        ("suite.yaml:12: reports[0].kind: expected", "did you mean 'leaderboard'?"),
    ),
    "statistics of a norm without any": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-in, stats: batch}\n",
        ("suite.yaml:6: models[0].stats: stats 'batch'", "norm 'in' has no choice of statistics"),
    ),
    "statistics of another norm": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, stats: tracked-mean}\n",
        ("models[0].stats: stats 'tracked-mean'", "norm 'bn' has only population, batch"),
    ),
    "statistics of a pool": (
        "protocol: fixed_path",
        "stats: batch",
        ("suite.yaml:7: models[1].stats:", "norm 'rna(bn+in)' has no choice of statistics"),
    ),
    "unknown statistics": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, stats: populaton}\n",
        ("suite.yaml:6: models[0].stats: expected", "did you mean 'population'?"),
    ),
    "fixed path without a path": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, protocol: fixed_path}\n",
        ("suite.yaml:6: models[0].protocol: fixed_path is for models", "use white_box"),
    ),
    "surrogate without transfer": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, surrogate: fmnist-resnet20-in}\n",
        ("suite.yaml:6: models[0].surrogate: a surrogate is for transfer", "found protocol white_"),
    ),
    "transfer without a surrogate": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, protocol: transfer}\n",
        ("suite.yaml:6: models[0].protocol: transfer needs the checkpoint", "surrogate: NAME"),
    ),
    "transfer from statistics": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, protocol: transfer, surrogate: {stats: batch}}\n",
        ("suite.yaml:6: models[0].surrogate: transfer needs the checkpoint",),
    ),
    "unknown surrogate": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, protocol: transfer, surrogate: fmnist-resnet20-im}\n",
        ("models[0].surrogate.checkpoint: unknown checkpoint", "mean 'fmnist-resnet20-in'?"),
    ),
    "unknown key of a surrogate": (
        "- fmnist-resnet20-bn\n",
        "- checkpoint: fmnist-resnet20-bn\n    protocol: stats_transfer\n"
        "    surrogate: {stat: batch}\n",
        ("suite.yaml:8: models[0].surrogate.stat: unknown key; did you mean 'stats'?",),
    ),
    "statistics of a surrogate without any": (
        "- fmnist-resnet20-bn\n",
        "- checkpoint: fmnist-resnet20-bn\n    protocol: transfer\n"
        "    surrogate: {checkpoint: fmnist-resnet20-in, stats: batch}\n",
        ("suite.yaml:8: models[0].surrogate.stats:", "norm 'in' has no choice of statistics"),
    ),
    "stats_transfer without statistics": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, protocol: stats_transfer}\n",
        ("models[0].protocol: stats_transfer needs the statistics", "{stats: population}"),
    ),
    "stats_transfer to the same statistics": (
        "- fmnist-resnet20-bn\n",
        "- checkpoint: fmnist-resnet20-bn\n    protocol: stats_transfer\n"
        "    surrogate: {stats: population}\n",
        ("suite.yaml:8: models[0].surrogate: crafts and scores under the same statistics",),
    ),
    "stats_transfer between checkpoints": (
        "- fmnist-resnet20-bn\n",
        "- checkpoint: fmnist-resnet20-bn\n    protocol: stats_transfer\n"
        "    surrogate: {checkpoint: fmnist-resnet20-rn, stats: batch}\n",
        ("suite.yaml:8: models[0].surrogate.checkpoint: stats_transfer crafts on the same",),
    ),
    "draws of a model that draws nothing": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, eot_iter: 20}\n",
        ("models[0].eot_iter: 'fmnist-resnet20-bn' (bn) draws nothing at random; remove",),
    ),
    "draws of one path": (
        "protocol: fixed_path",
        "protocol: fixed_path, eot_iter: 20",
        ("suite.yaml:7: models[1].eot_iter: fixed_path attacks one path", "use white_box"),
    ),
    "no draws": (
        "label: PGD20",
        "label: PGD20, eot_iter: 0",
        ("suite.yaml:10: attacks[1].eot_iter: expected a value greater than or equal to 1",),
    ),
    "a lone adversary of a model that takes images alone": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, adversary: single}\n",
        ("suite.yaml:6: models[0].adversary: single is for models whose images share",),
    ),
    "unknown adversary": (
        "- fmnist-resnet20-bn\n",
        "- {checkpoint: fmnist-resnet20-bn, adversary: singel}\n",
        ("models[0].adversary: expected", "did you mean 'single'?"),
    ),
    "eps in 255ths": (
        "eps: 0.1",
        "eps: 8",
        ("suite.yaml:3: threat_model.eps: linf eps", "at most 1, found 8; write 8/255"),
    ),
    "eps in 255ths, normalized": (
        "eps: 0.1",
        "eps: 8, eps_space: normalized",
        ("threat_model.eps:", "found 8 (2.4648 in pixels)", "did you mean 8/255?"),
    ),
    "l2 eps beyond the box": (
        "norm: linf, eps: 0.1}",
        "norm: l2, eps: 128}",
        ("threat_model.eps: expected at most 28 (l2", "did you mean 128/255?"),
    ),
    "normalized eps in l2": (
        "norm: linf, eps: 0.1}",
        "norm: l2, eps: 0.5, eps_space: normalized}",
        ("suite.yaml:3: threat_model.eps_space:", "for norm 'linf' only"),
    ),
    "negative eps": ("eps: 0.1", "eps: -0.1", ("suite.yaml:3: threat_model.eps: eps must be",)),
    "eps that is no number": ("eps: 0.1", "eps: 8/0", ("threat_model.eps:", "such as 8/255")),
    "unknown norm": ("norm: linf", "norm: linff", ("threat_model.norm:", "mean 'linf'?")),
    "off read as a boolean": (
        "suite: demo",
        "suite: off",
        ("suite.yaml:1: suite: expected text", "unquoted off as False: quote it ('off')"),
    ),
    "off read as a seed": (
        "seed: 0",
        "seed: off",
        ("suite.yaml:2: data.seed: expected a whole number", "unquoted off as False"),
    ),
    "number as a label": (
        "label: PGD20",
        "label: 20",
        ("attacks[1].label: expected text, found 20; quote it ('20')",),
    ),
    "off as a key": (
        "batch_size: 64",
        "off: 64",
        ("suite.yaml:1: a key 'off' on line 4 is not text; quote it",),
    ),
    "key given twice": (
        "batch_size: 64",
        "batch_size: 64\nbatch_size: 32",
        ("suite.yaml:4: batch_size: given a second time on line 5 (first on line 4)",),
    ),
    "fraction for a whole number": (
        "batch_size: 64",
        "batch_size: 64.5",
        ("suite.yaml:4: batch_size: expected a whole number, found 64.5",),
    ),
    "no images": ("limit: 64", "limit: 0", ("suite.yaml:2: data.limit:", "found 0")),
    "repeated model": (
        "models:\n",
        "models:\n  - fmnist-resnet20-bn\n",
        ("suite.yaml:7: models[1].label: 'fmnist-resnet20-bn' is the label of models[0] too",),
    ),
    "repeated attack": (
        "label: PGD20",
        "label: natural",
        ("suite.yaml:10: attacks[1].label: 'natural' is the label of attacks[0] too",),
    ),
    "upper-case name": ("suite: demo", "suite: Demo", ("suite.yaml:1: suite: expected only lo",)),
    "models that are no list": (
        "models:\n  - fmnist-resnet20-bn\n  - {",
        "models:\n  {",
        ("suite.yaml:5: models: expected a list, found a mapping",),
    ),
    "unknown published table": (
        "rna/table1",
        "rna/tabel1",
        ("suite.yaml:12: reports[0].published: unknown published table", "'rna/table1'?"),
    ),
    "unknown published column": (
        "published: pgd20",
        "published: pdg20",
        ("suite.yaml:10: attacks[1].published: no published table", "did you mean 'pgd20'?"),
    ),
    "unknown published row": (
        "{norm: rna}",
        "{norm: rma}",
        (
            "suite.yaml:7: models[1].published.norm:",
            "has norm 'rma'; did you mean 'rna'? choose one of {model: resnet18, norm: bn}, ",
        ),
    ),
    "unknown key of a published row": (
        "{norm: rna}",
        "{nrom: rna}",
        ("models[1].published.nrom:", "did you mean 'norm'?"),
    ),
    "ambiguous published row": (
        "where: {model: resnet18}",
        "where: {}",
        (
            "models[1].published: selects 2 rows of rna/table1; choose one of "
            "{model: resnet18, norm: rna}, {model: wrn32, norm: rna}",
        ),
    ),
    "where without a row": (
        "{model: resnet18}",
        "{model: resnet81}",
        ("suite.yaml:12: reports[0].where.model:", "did you mean 'resnet18'?"),
    ),
    "not YAML": ("suite: demo", "suite: [demo", ("suite.yaml:2: not valid YAML:",)),
    "a tab": ("suite: demo", "\tsuite: demo", ("suite.yaml:1: not valid YAML:",)),
    "two documents": ("models:", "---\nmodels:", ("suite.yaml:5: expected one YAML document",)),
    "a tag": ("demo", "!!python/object:os.system x", ("suite.yaml:1: the tag 'tag:yaml",)),
    "not a number": ("{n_iter: 20}", "{alpha: .nan}", ("attacks[1].params.alpha:", "finite")),
    "a number without end": ("seed: 0", "seed: 1" + "0" * 400, ("data.seed:", "finite number")),
    "agreement without pairs": (
        "kind: leaderboard, published: rna/table1, where: {model: resnet18}",
        "kind: agreement",
        ("suite.yaml:12: reports[0]: kind 'agreement' needs pairs",),
    ),
    "pair with an unknown label": (
        "kind: leaderboard, published: rna/table1, where: {model: resnet18}",
        "kind: agreement, published: rna/table1, where: {model: resnet18}, "
        "pairs: [[PGD20, naturl]]",
        ("reports[0].pairs[0][1]: no attack of this suite has", "did you mean 'natural'?"),
    ),
    "model that meets an unknown attack": (
        "- {checkpoint: fmnist-resnet20-rna-at, protocol: fixed_path, published: {norm: rna}}",
        "- {checkpoint: fmnist-resnet20-rna-at, protocol: fixed_path, attacks: [natural, PDG20]}",
        ("models[1].attacks[1]: no attack of this suite has", "did you mean 'PGD20'?"),
    ),
    "pair of one": (
        "kind: leaderboard, published: rna/table1, where: {model: resnet18}",
        "kind: agreement, published: rna/table1, pairs: [[PGD20]]",
        ("suite.yaml:12: reports[0].pairs[0][1]: required, but missing",),
    ),
    "undefined alias": ("suite: demo", "suite: *x", ("suite.yaml:1: not valid YAML:", "alias")),
}


SEVERAL_FAULTS = {
    "two bad parameters",
    "normalized eps in l2",
    "checkpoint of another shape",
    "l2 eps beyond the box",
}


def _load_error(path: Path, text: str, lookup: Lookup) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_suite(path, lookup)
    return str(caught.value)


def test_the_suite_that_the_malformed_ones_are_made_from_is_good(
    tmp_path: Path, lookup: Lookup
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_suite(path, lookup).spec.suite == "demo"


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_suite_gets_its_message(case: str, tmp_path: Path, lookup: Lookup) -> None:
    old, new, fragments = MALFORMED[case]
    assert old in GOOD
    message = _load_error(tmp_path / "suite.yaml", GOOD.replace(old, new, 1), lookup)
    for fragment in fragments:
        assert fragment in message
    lines = message.splitlines()
    assert all(line.startswith(f"{tmp_path}/suite.yaml:") for line in lines)
    assert len(lines) == 1 or case in SEVERAL_FAULTS


def test_every_problem_is_listed_in_the_order_of_the_file(tmp_path: Path, lookup: Lookup) -> None:
    text = GOOD
    for case in ("unknown key", "eps in 255ths", "unknown attack", "unknown report"):
        old, new, _ = MALFORMED[case]
        text = text.replace(old, new, 1)
    text = text.replace("- fmnist-resnet20-bn\n", "- {checkpoint: fmnist-resnet20-nb, stats: x}\n")
    lines = _load_error(tmp_path / "suite.yaml", text, lookup).splitlines()
    keys = [line.split(": ")[1] for line in lines]
    assert keys == [
        "threat_model.eps",
        "batchsize",
        "models[0].stats",
        "attacks[1].attack",
        "reports[0].kind",
    ]


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "empty"),
        (b"- a\n- b\n", "expected a mapping of keys such as 'suite:' and 'models:', found a list"),
        (b"suite: \xff\n", ":1: not UTF-8 text"),
        (b"suite: a\nb: \x00\n", ":2: not valid YAML"),
        (b'suite: "\\UFFFFFFFF"\n', "not valid YAML"),
        (b"# " + b"x" * 1_000_001, "larger than 1000000 bytes"),
        (b"a: " + b"[" * 5000, "nested deeper than 20 levels"),
        (b"a: &a [*a]\n", ":1: an alias refers to what holds it"),
        (b"a: &a 1\nb: [" + b"*a, " * 101 + b"]\n", ":2: more than 100 aliases"),
        (b"[" + b"1, " * 20_001 + b"]", "more than 20000 values"),
    ],
)
def test_unreadable_file_is_refused(
    content: bytes, fragment: str, tmp_path: Path, lookup: Lookup
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_suite(path, lookup)
    assert str(path) in str(caught.value)
    assert fragment in str(caught.value)


def test_aliases_that_multiply_are_refused(tmp_path: Path, lookup: Lookup) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    message = _load_error(tmp_path / "suite.yaml", "\n".join(rows), lookup)
    assert "aliases expand to more than 20000 values" in message


def test_missing_file_and_folder_are_refused(tmp_path: Path, lookup: Lookup) -> None:
    with pytest.raises(UserError, match="no such file; expected a YAML file"):
        load_suite(tmp_path / "none.yaml", lookup)
    with pytest.raises(UserError, match="cannot be read"):
        load_suite(tmp_path, lookup)


def test_aliased_values_are_read_and_blamed_where_their_key_stands(
    tmp_path: Path, lookup: Lookup
) -> None:
    old = '- {attack: "torchattacks:PGD", label: PGD20, params: {n_iter: 20}, published: pgd20}'
    new = (
        '- {attack: "torchattacks:PGD", label: A, params: &p {n_iter: 20, alfa: 1}}\n'
        '  - {attack: "torchattacks:BIM", label: B, params: *p}'
    )
    lines = _load_error(tmp_path / "s.yaml", GOOD.replace(old, new), lookup).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "attacks[1].params.alfa",
        "attacks[2].params.alfa",
    ]
