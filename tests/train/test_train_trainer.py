"""The training loop: what it trains on, on which path, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.train.compute import Compute, Layout, fastest_layout, layouts
from bench.train.recipe import Recipe
from bench.train.source import DeviceSource
from bench.train.trainer import Progress, Trainer

RNA: dict[str, Any] = {"name": "rna", "pool": ["bn", "in"]}
RNA_LIBRARY: dict[str, Any] = {"name": "rna", "pool": [{"name": "gn", "groups": 4}, "ln"]}
ATTACK: dict[str, Any] = {"threat_model": {"eps": "8/255"}, "alpha": "4/255", "n_iter": 2}
N_FGSM: dict[str, Any] = {"method": "n-fgsm", "threat_model": {"eps": "8/255"}, "alpha": "8/255"}
PLAIN = Layout()
Make = Callable[..., Recipe]
Data = tuple[Tensor, Tensor]


def trainer_of(recipe: Recipe, data: Data, folder: Path, layout: Layout = PLAIN) -> Trainer:
    source = DeviceSource(*data, recipe.augment, torch.device("cpu"))
    return Trainer(recipe, source, folder / "state.pt", torch.device("cpu"), layout)


def silent(_: Progress) -> None:
    """Reports nothing."""


class Spy:
    """Stands in for a trainer's forward pass and notes what it was called with."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.calls = trainer, list[dict[str, Any]]()
        trainer.forward = trainer.learner = self  # type: ignore[assignment]

    def __call__(self, x: Tensor) -> Tensor:
        model, paths = self.trainer.model, self.trainer.paths
        self.calls.append(
            {
                "training": model.training,
                "learns": any(p.requires_grad for p in model.parameters()),
                "path": None if paths is None or paths.pinned is None else paths.pinned.clone(),
                "x": x.detach().clone(),
            }
        )
        logits: Tensor = model(x)
        return logits


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        ("natural", "bn"),
        ("natural", RNA),
        ("mixed", "bn"),
        ("adversarial", "bn"),
        ("adversarial", RNA),
        ("black-box", RNA),
    ],
    ids=str,
)
def test_every_kind_of_training_runs(
    kind: str, norm: Any, make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    attack = None if kind == "natural" else ATTACK
    recipe = make_recipe(norm, 8, kind=kind, attack=attack, augment={"pad": 1, "flip": True})
    trainer = trainer_of(recipe, small_images, tmp_path)
    start = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    seen: list[Progress] = []
    model = trainer.run(seen.append)
    assert [p.step for p in seen] == [1, 2, 3, 4] and seen[-1].n_steps == 4
    assert [p.epoch for p in seen] == [1, 1, 2, 2]
    assert all(0 <= p.accuracy <= 1 and p.loss > 0 and p.rate > 0 for p in seen)
    assert not any(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert trainer.paths is None or trainer.paths.pinned is None, "one path is left in force"
    for name, value in model.state_dict().items():
        assert value.isfinite().all()
        if name.endswith("conv1.weight"):
            assert not torch.equal(value, start[name])
    tracked = [v for k, v in model.state_dict().items() if k.endswith("norm1.num_batches_tracked")]
    expected = 8 if kind == "mixed" else 4
    assert all(int(v) == expected for v in tracked), "the attack moved the tracked statistics"


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize("kind", ["adversarial", "black-box"])
def test_which_path_is_attacked_and_which_is_trained(
    kind: str, per: str, make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    recipe = make_recipe(RNA | {"per": per}, 8, kind=kind, attack=ATTACK, epochs=1)
    trainer = trainer_of(recipe, small_images, tmp_path)
    spy = Spy(trainer)
    trainer.run(silent)
    assert len(spy.calls) == 2 * 3, "two batches of two attack steps and a training step"
    steps = [spy.calls[:3], spy.calls[3:]]
    for first, second, training in steps:
        assert [c["training"] for c in (first, second, training)] == [False, False, True]
        assert [c["learns"] for c in (first, second, training)] == [False, False, True]
        assert first["path"].shape == ((19, 32) if per == "sample" else (19,))
        assert torch.equal(first["path"], second["path"]), "the path changed within an attack"
        assert torch.equal(first["path"], training["path"]) == (kind == "adversarial")
    assert not torch.equal(steps[0][0]["path"], steps[1][0]["path"])


def test_adversarial_training_sees_perturbed_images_in_the_ball(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    recipe = make_recipe("bn", 8, kind="adversarial", attack=ATTACK, epochs=1)
    trainer = trainer_of(recipe, small_images, tmp_path)
    spy = Spy(trainer)
    trainer.run(silent)
    clean = small_images[0].float() / 255
    assert len(spy.calls) == 2 and all(call["training"] for call in spy.calls)
    for call in spy.calls:
        distances = (call["x"][:, None] - clean[None]).abs().amax((2, 3, 4)).amin(1)
        assert distances.max() <= 8 / 255 + 1e-6 and distances.min() > 1 / 255
        assert call["x"].min() >= 0 and call["x"].max() <= 1


def test_an_epoch_sees_each_image_once_in_an_order_of_its_own(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    recipe = make_recipe("bn", 8, limit=40)
    trainer = trainer_of(recipe, small_images, tmp_path)
    spy = Spy(trainer)
    trainer.run(silent)
    assert [len(c["x"]) for c in spy.calls] == [32, 8, 32, 8]
    epochs = [torch.cat([c["x"] for c in spy.calls[i : i + 2]]) for i in (0, 2)]
    clean = small_images[0][torch.arange(40) * 64 // 40].float() / 255
    for epoch in epochs:
        match = (epoch[:, None] == clean[None]).flatten(2).all(2)
        assert bool((match.sum(0) == 1).all()) and bool((match.sum(1) == 1).all())
    assert not torch.equal(epochs[0], epochs[1])


def test_floats_and_bytes_train_alike(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    recipe = make_recipe("in", 8, epochs=1)
    x, y = small_images
    first = trainer_of(recipe, (x, y), tmp_path / "a").run(silent)
    second = trainer_of(recipe, (x.float().div_(255), y), tmp_path / "b").run(silent)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])


def test_the_rate_goes_up_and_down_and_scalars_get_a_tenth(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    recipe = make_recipe(
        "fixup", 8, epochs=4, schedule={"warmup": 0.25}, lr=0.08, weight_decay=1e-3, clip=1
    )
    trainer = trainer_of(recipe, small_images, tmp_path)
    rates: list[float] = []
    scalars: list[float] = []
    by_size = {
        max(p.numel() for p in group["params"]): group for group in trainer.optimizer.param_groups
    }
    assert by_size[1]["weight_decay"] == 0 and by_size[max(by_size)]["weight_decay"] == 1e-3

    def note(_: Progress) -> None:
        rates.append(by_size[max(by_size)]["lr"])
        scalars.append(by_size[1]["lr"])

    trainer.run(note)
    # 8 steps, taken at the middle of each: the peak lies after a quarter.
    expected = [0.25, 0.75, 11 / 12, 9 / 12, 7 / 12, 5 / 12, 3 / 12, 1 / 12]
    assert rates == pytest.approx([0.08 * e for e in expected])
    assert scalars == pytest.approx([r / 10 for r in rates])


def test_weight_decay_spares_vectors(make_recipe: Make, small_images: Data, tmp_path: Path) -> None:
    trainer = trainer_of(make_recipe("bn", 8), small_images, tmp_path)
    decayed = {
        id(p)
        for group in trainer.optimizer.param_groups
        for p in group["params"]
        if group["weight_decay"]
    }
    matrices = {
        id(m.weight) for m in trainer.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    in_all = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert decayed == matrices
    assert {id(p) for p in in_all} == {id(p) for p in trainer.model.parameters()}


def test_training_without_momentum_runs(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    trainer_of(make_recipe("bn", 8, momentum=0, epochs=1), small_images, tmp_path).run(silent)


def test_a_diverging_run_stops_and_says_so(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    trainer = trainer_of(make_recipe("none", 8, lr=1e30), small_images, tmp_path)
    with pytest.raises(UserError, match=r"tiny: the loss became (nan|inf); lower lr or set clip"):
        trainer.run(silent)


@pytest.mark.process
def test_the_state_of_another_recipe_is_refused(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    trainer_of(make_recipe("bn", 8, epochs=1), small_images, tmp_path).run(silent)
    for change in ({"lr": 0.01}, {"seed": 1}, {"epochs": 2}, {"norm": "in"}):
        other = make_recipe(**({"norm": "bn", "size": 8, "epochs": 1} | change))
        with pytest.raises(UserError, match=r"state\.pt: belongs to another recipe; delete it"):
            trainer_of(other, small_images, tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02}q\x00.", "truncated", "list"])
def test_a_damaged_state_is_refused(
    content: bytes | str, make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    path, recipe = tmp_path / "state.pt", make_recipe("bn", 8, epochs=1)
    if content == "truncated":
        trainer_of(recipe, small_images, tmp_path).run(silent)
        path.write_bytes(path.read_bytes()[:-5000])
    elif content == "list":
        torch.save([1, 2], path)
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt: not a readable training state; delete it"):
        trainer_of(recipe, small_images, tmp_path)


class Bomb:
    """A pickle that touches a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_state_file_executes_nothing(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    torch.save({"recipe": Bomb(tmp_path / "fired")}, tmp_path / "state.pt")
    with pytest.raises(UserError, match="not a readable training state"):
        trainer_of(make_recipe("bn", 8), small_images, tmp_path)
    assert not (tmp_path / "fired").exists()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["rn", RNA, RNA_LIBRARY], ids=str)
def test_compiled_training_agrees_with_plain(
    norm: Any, make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    recipe = make_recipe(norm, 8, epochs=1, lr=0.01)
    if norm != "rn":
        recipe = make_recipe(norm, 8, epochs=1, lr=0.01, kind="black-box", attack=ATTACK)
    losses: list[list[float]] = []
    for compiled in (False, True):
        source = DeviceSource(*small_images, recipe.augment, torch.device("cpu"))
        layout = Layout(torch.bfloat16, channels_last=True, compiled=compiled)
        trainer = Trainer(recipe, source, tmp_path / f"{compiled}.pt", torch.device("cpu"), layout)
        seen: list[Progress] = []
        # Beyond the limit PyTorch would run the rest uncompiled.
        with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
            trainer.run(seen.append)
        losses.append([p.loss for p in seen])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.process
@pytest.mark.parametrize("kind", ["natural", "mixed", "adversarial", "black-box"])
@pytest.mark.parametrize(
    "norm", ["bn", "in", "fixup", RNA | {"per": "sample"}, RNA_LIBRARY], ids=str
)
def test_images_side_by_side_and_channels_last_train_alike(
    norm: Any, kind: str, make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    if kind == "black-box" and not isinstance(norm, dict):
        pytest.skip("is for rna")
    attack = None if kind == "natural" else ATTACK
    recipe = make_recipe(norm, 8, kind=kind, attack=attack, epochs=1, lr=0.01, limit=50, clip=1.0)
    histories: list[list[float]] = []
    torch.set_num_threads(2)
    try:
        for i, layout in enumerate((PLAIN, Layout(channels_last=True, side_by_side=True))):
            seen: list[Progress] = []
            trainer = trainer_of(recipe, small_images, tmp_path / str(i), layout)
            assert len(trainer._models) == 1 + i
            trainer.run(seen.append)
            histories.append([p.loss for p in seen])
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert histories[1] == pytest.approx(histories[0], rel=1e-3)


def test_the_layout_that_takes_least_time_is_taken() -> None:
    torch.set_num_threads(2)
    try:
        compute = Compute(exact=True)
        candidates = layouts(compute)
        best = Layout(channels_last=True, side_by_side=True)
        assert best in candidates and not any(layout.compiled for layout in candidates)

        def stepper(layout: Layout) -> Callable[[], object]:
            return lambda: time.sleep(0.002 if layout == best else 0.02)

        assert fastest_layout(compute, stepper, 100) == best
    finally:
        torch.set_num_threads(1)


def test_a_processor_without_bfloat16_is_never_asked_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for has, dtypes in ((False, {torch.float32}), (True, {torch.float32, torch.bfloat16})):
        monkeypatch.setattr("bench.train.compute.has_bfloat16", lambda has=has: has)
        assert {layout.dtype for layout in layouts(Compute())} == dtypes
        assert {layout.dtype for layout in layouts(Compute(exact=True))} == {torch.float32}


def test_single_step_training_is_watched_on_images_that_it_does_not_see(
    make_recipe: Make, small_images: Data, tmp_path: Path
) -> None:
    recipe = make_recipe("bn", 8, kind="adversarial", attack=N_FGSM, epochs=2)
    trainer = trainer_of(recipe, small_images, tmp_path)
    assert len(trainer.held_out) == 16 and len(trainer.positions) == 48
    assert not set(trainer.held_out.tolist()) & set(trainer.positions.tolist())
    trainer.run(silent)
    assert all(0 <= epoch["pgd_accuracy"] <= 1 for epoch in trainer.history)


def test_a_collapse_under_pgd_stops_single_step_training_and_keeps_the_epoch_before(
    make_recipe: Make, small_images: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("bn", 8, kind="adversarial", attack=N_FGSM, epochs=3)
    trainer = trainer_of(recipe, small_images, tmp_path)
    watch = trainer._watch

    def collapses() -> None:
        if trainer.epoch == 2:  # the network has come to call everything the same class
            trainer.history[0]["pgd_accuracy"] = 0.9
            monkeypatch.setattr(trainer, "_logits", lambda forward, z: -forward(z).float().exp())
        watch()

    monkeypatch.setattr(trainer, "_watch", collapses)
    with pytest.raises(UserError, match=r"catastrophic overfitting in epoch 2: .* 90\.0% were"):
        trainer.run(silent)
    assert trainer_of(recipe, small_images, tmp_path).epoch == 1
