"""A checkpoint's numbers: measured as stated, and every way a card can be wrong is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bench import evaluate
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.data.slice import slice_index, take_slice
from bench.models import Classifier, build_model
from bench.train.quality import (
    AuditOptions,
    audit_checkpoint,
    audit_cost,
    quick_pgd,
    quick_threat,
    score_slice,
    scoring_split,
)
from bench.zoo import Card, Checkpoint, CleanAccuracy, read_card, save_checkpoint

N = 40
RNA = {"name": "rna", "pool": [{"name": "gn", "groups": 8}, "in"]}
SMALL_EPS = {"attack": {"threat_model": {"norm": "linf", "eps": "1/255"}}}


def small(norm: Any = "bn") -> Classifier:
    spec = {"arch": "resnet20", "channels": 1, "size": 8, "classes": 4, "mean": [0.5], "std": [0.2]}
    model = build_model(ModelSpec.model_validate(spec | {"norm": norm}), seed=3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        model(torch.rand(32, 1, 8, 8, generator=generator))
    return model.eval()


def write_data(path: Path, model: Classifier) -> None:
    """Writes images of which the model gets all but every fifth right, or about so if random."""
    x = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    with torch.no_grad():
        y = model(torch.from_numpy(x).float() / 255).argmax(1).numpy()
    y[::5] = (y[::5] + 1) % 4
    np.savez(path, x=x, y=y)


def save(folder: Path, model: Classifier, **changes: Any) -> Checkpoint:
    card = Card(
        name=folder.name,
        model=model.spec,
        dataset="fashion-mnist",
        training="natural",
        clean_accuracy=CleanAccuracy(value=0.8, n=N, split="npz:tiny.npz test"),
        versions={},
        sha256="0" * 64,
    )
    return save_checkpoint(folder, model.net, card.model_copy(update=changes))


@pytest.fixture
def sound(tmp_path: Path) -> Checkpoint:
    """A checkpoint whose card is right, with its images beside it."""
    model = small()
    write_data(tmp_path / "tiny.npz", model)
    return save(tmp_path / "zoo" / "sound", model, recipe=SMALL_EPS)


@pytest.fixture
def options(tmp_path: Path) -> AuditOptions:
    return AuditOptions(data_root=tmp_path)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = yaml.safe_load((folder / "card.yaml").read_text())
    change(data)
    (folder / "card.yaml").write_text(yaml.safe_dump(data))


@pytest.mark.process
def test_clean_accuracy_is_counted_as_the_card_says(tmp_path: Path) -> None:
    for norm in ("bn", "rn", RNA):
        model = small(norm)
        write_data(tmp_path / "tiny.npz", model)
        data = take_slice(DataSpec(name="npz:tiny.npz"), tmp_path)
        found = score_slice(model, data, "npz:tiny.npz test", batch_size=16, n_draws=3)
        assert (found.n, found.split) == (N, "npz:tiny.npz test")
        assert found.batch_size == (16 if norm == "rn" else None)
        assert found.n_draws == (3 if norm is RNA else 1)
        if norm == "bn":
            assert found.value == 0.8
        if norm == "rn":
            x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
            with torch.no_grad():
                batches = zip(x.split(16), y.split(16), strict=True)
                hits = sum(int((model(a).argmax(1) == b).sum()) for a, b in batches)
            assert found.value == hits / N


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = small()
    np.savez(tmp_path / "big.npz", x=np.zeros((4, 1, 9, 9), np.uint8), y=np.zeros(4, np.int64))
    np.savez(tmp_path / "more.npz", x=np.zeros((4, 1, 8, 8), np.uint8), y=np.full(4, 4))
    for name, message in (("big", r"images are \(1, 9, 9\)"), ("more", "has label 4")):
        data = take_slice(DataSpec(name=f"npz:{name}.npz"), tmp_path)
        with pytest.raises(UserError, match=message):
            score_slice(model, data, name)


@pytest.mark.process
def test_the_quick_attack_is_what_evaluate_finds(sound: Checkpoint, tmp_path: Path) -> None:
    found = quick_pgd(sound, tmp_path, n=30)
    data = take_slice(DataSpec(name="npz:tiny.npz"), tmp_path)
    first = slice_index(DataSpec(name="npz:tiny.npz", seed=0, limit=30), data.y)
    params = {"n_iter": 20, "alpha": 0.25 / 255, "keep": "last"}
    expected = evaluate(
        sound.load(),
        data.x[first],
        data.y[first],
        "linf:1/255",
        [("pgd", params)],
        search="exact",
    ).robust_accuracy("pgd")
    assert 0 < found.value < 0.8, "nothing to tell apart"
    assert found.value == pytest.approx(expected.value, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert (found.n, found.split, found.protocol) == (30, "npz:tiny.npz test", "white_box")
    assert found.attack == "PGD-20, linf 1/255, alpha 0.0009804"
    assert found == quick_pgd(sound, tmp_path, n=30)


@pytest.mark.process
def test_stochastic_and_batch_dependent_models_are_attacked_as_what_they_are(
    tmp_path: Path,
) -> None:
    for norm, protocol, interval in (
        (RNA, "white_box, EOT 5, 20 fresh draws", "wilson"),
        ("rn", "white_box, joint in batches of 128", "no interval: all samples lie in one batch"),
    ):
        model = small(norm)
        write_data(tmp_path / "tiny.npz", model)
        found = quick_pgd(save(tmp_path / "a", model, recipe=SMALL_EPS), tmp_path, n=12)
        assert (found.protocol, found.interval) == (protocol, interval)
        assert (found.low is None) == (norm == "rn")


def test_the_ball_is_that_of_training_else_the_data_sets(sound: Checkpoint) -> None:
    card = sound.card
    assert quick_threat(card).eps == pytest.approx(1 / 255)
    for dataset, eps in (("mnist", 0.3), ("fashion-mnist", 0.1), ("cifar10", 8 / 255)):
        plain = card.model_copy(update={"dataset": dataset, "recipe": {}})
        assert quick_threat(plain).eps == eps
    with pytest.raises(UserError, match="no quick attack is defined for data set 'npz:x'"):
        quick_threat(card.model_copy(update={"dataset": "npz:x", "recipe": {}}))


def test_the_scored_split_is_read_from_the_card(sound: Checkpoint) -> None:
    def split(text: str) -> DataSpec:
        clean = sound.card.clean_accuracy.model_copy(update={"split": text})
        return scoring_split(sound.card.model_copy(update={"clean_accuracy": clean}))

    assert split("npz:my data.npz test") == DataSpec(name="npz:my data.npz", split="test")
    for text in ("fashion-mnist", "test", "cifar10 test, exact part"):
        with pytest.raises(UserError, match="expected a split such as 'fashion-mnist test'"):
            split(text)


@pytest.mark.process
def test_a_sound_checkpoint_passes_and_update_fills_its_card(
    sound: Checkpoint, options: AuditOptions
) -> None:
    path = sound.folder / "card.yaml"
    before = path.read_bytes()
    first = audit_checkpoint(sound.folder, options)
    assert (first.verdict, first.sha256) == ("pass", "ok")
    assert first.notes == ("the card has no PGD-20 number yet",)
    assert path.read_bytes() == before, "changed without --update"
    updated = audit_checkpoint(sound.folder, replace(options, update=True, n_attacked=16))
    assert updated.verdict == "updated"
    card = read_card(path)
    assert card.robust_accuracy == updated.robust[1] and card.robust_accuracy.n == 16
    assert card.model_copy(update={"robust_accuracy": None}) == sound.card
    written = path.read_bytes()
    again = audit_checkpoint(sound.folder, replace(options, update=True))
    assert (again.verdict, again.notes) == ("pass", ())
    assert again.robust[1] == card.robust_accuracy and path.read_bytes() == written


@pytest.mark.process
def test_a_check_attacks_some_of_the_cards_images_unless_more_are_asked_for(
    sound: Checkpoint, options: AuditOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.train.quality.SAMPLED_N", 8)
    audit_checkpoint(sound.folder, replace(options, update=True, n_attacked=16))
    (note,) = audit_checkpoint(sound.folder, options).notes
    assert note.startswith("PGD by interval [") and note.endswith("of 8 images")
    assert not audit_checkpoint(sound.folder, replace(options, n_attacked=16)).notes
    value = read_card(sound.folder / "card.yaml").robust_accuracy.value  # type: ignore[union-attr]
    wrong = 0.0 if value > 0.5 else 1.0
    rewrite(sound.folder, lambda card: card["robust_accuracy"].update(value=wrong))
    audit = audit_checkpoint(sound.folder, options)
    assert audit.verdict == "differs" and "outside" in audit.notes[-1]


def test_the_longest_check_is_foreseen(sound: Checkpoint, options: AuditOptions) -> None:
    folder, quick = sound.folder, replace(options, quick=True)
    assert audit_cost(folder, quick) == N
    assert audit_cost(folder, replace(options, n_attacked=3)) == N + 3 * 20 * 2
    assert audit_cost(folder, replace(quick, limit=5)) == 5
    whole = audit_cost(folder, options)
    rewrite(folder, lambda card: card["clean_accuracy"].update(n_draws=5))
    assert audit_cost(folder, options) == 5 * whole
    assert audit_cost(folder.parent / "none", options) == 0


def flip_a_bit(folder: Path) -> None:
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-100] ^= 1
    (folder / "model.safetensors").write_bytes(raw)


def other_name(folder: Path) -> None:
    rewrite(folder, lambda card: card.update(name="other"))


def better_clean(folder: Path) -> None:
    rewrite(folder, lambda card: card["clean_accuracy"].update(value=0.85))


def more_images(folder: Path) -> None:
    rewrite(folder, lambda card: card["clean_accuracy"].update(n=50))


def fewer_images(folder: Path) -> None:
    rewrite(folder, lambda card: card["clean_accuracy"].update(n=39))


def other_mean(folder: Path) -> None:
    rewrite(folder, lambda card: card["model"].update(mean=[0.0]))


def other_size(folder: Path) -> None:
    rewrite(folder, lambda card: card["model"].update(size=16))


def other_norm(folder: Path) -> None:
    rewrite(folder, lambda card: card["model"].update(norm="in"))


def no_card(folder: Path) -> None:
    (folder / "card.yaml").unlink()


@pytest.mark.parametrize(
    ("damage", "sha256", "message"),
    [
        (flip_a_bit, "differs", "truncated or altered"),
        (other_name, "ok", "the card is that of 'other'"),
        (better_clean, "ok", r"clean: the card says 85\.0000%, found 80\.0000%"),
        (fewer_images, "ok", "clean: the card counts 39 images, there are 40"),
        (more_images, "ok", "clean: the card counts 50 images, there are 40"),
        (other_mean, "ok", "clean: the card says 80"),
        (other_size, "ok", r"images are \(1, 8, 8\), the model takes \(1, 16, 16\)"),
        (other_norm, "ok", "the weights do not fit"),
        (no_card, "", "no such file; expected a checkpoint's card"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_difference_is_found(
    damage: Callable[[Path], object],
    sha256: str,
    message: str,
    sound: Checkpoint,
    options: AuditOptions,
) -> None:
    damage(sound.folder)
    audit = audit_checkpoint(sound.folder, replace(options, quick=True))
    assert (audit.verdict, audit.sha256) == ("differs", sha256)
    with pytest.raises(UserError, match=message):
        raise UserError("; ".join(audit.notes))


@pytest.mark.process
def test_a_false_robust_accuracy_is_found_and_corrected(
    sound: Checkpoint, options: AuditOptions
) -> None:
    audit_checkpoint(sound.folder, replace(options, update=True, n_attacked=16))
    true = read_card(sound.folder / "card.yaml").robust_accuracy
    assert true is not None
    for change in ({"value": 1.0}, {"attack": "PGD-20, linf 2/255, alpha 0.0019"}):
        rewrite(sound.folder, lambda card, c=change: card["robust_accuracy"].update(c))
        found = audit_checkpoint(sound.folder, options)
        assert found.verdict == "differs" and found.notes[0].startswith("PGD: the card"), found
        assert audit_checkpoint(sound.folder, replace(options, quick=True)).verdict == "pass"
        updated = audit_checkpoint(sound.folder, replace(options, update=True))
        assert updated.verdict == "updated"
        assert read_card(sound.folder / "card.yaml").robust_accuracy == true


def test_without_its_images_only_the_hash_is_checked(
    sound: Checkpoint, options: AuditOptions, tmp_path: Path
) -> None:
    elsewhere = replace(options, data_root=tmp_path / "elsewhere")
    audit = audit_checkpoint(sound.folder, elsewhere)
    assert (audit.verdict, audit.sha256) == ("hash only", "ok")
    assert "no such file" in audit.notes[0]
    flip_a_bit(sound.folder)
    assert audit_checkpoint(sound.folder, elsewhere).verdict == "differs"


@pytest.mark.process
def test_part_of_the_images_is_compared_by_interval(
    sound: Checkpoint, options: AuditOptions
) -> None:
    audit = audit_checkpoint(sound.folder, replace(options, limit=30))
    assert audit.verdict == "pass" and "clean by interval" in audit.notes[0]
    assert audit.clean[1] is not None and audit.clean[1].n == 30
    assert audit.robust[1] is not None and audit.robust[1].n == 30
    rewrite(sound.folder, lambda card: card["clean_accuracy"].update(value=0.2))
    audit = audit_checkpoint(sound.folder, replace(options, limit=30, quick=True))
    assert audit.verdict == "differs" and "outside" in audit.notes[0]
    with pytest.raises(UserError, match="takes no --limit"):
        audit_checkpoint(sound.folder, replace(options, limit=30, update=True))
