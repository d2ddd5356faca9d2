"""Alarms against planted rows: each rule fires on its fault, and on nothing sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.alarms.convergence import convergence_sweep, sweep_alarms
from bench.alarms.rules import find_alarms
from bench.alarms.shared import Alarm, CellResult
from bench.core.attack import Traits
from bench.core.cell import CellSpec, DataSpec
from bench.core.result import CellInfo, Row
from bench.core.threat import ThreatModel

N = 200


def row(i: int, robust: float, clean: float = 1.0, **fields: Any) -> Row:
    """An image whose clean prediction is right, perturbed by 8/255 unless told otherwise."""
    values: dict[str, Any] = {
        "index": i, "label": i % 10, "clean_correct": clean,
        "clean_pred": (i if clean > 0.5 else i + 1) % 10,
        "adv_pred": (i if robust > 0.5 else i + 1) % 10, "adv_correct": robust, "robust": robust,
        "played": "adv", "linf": 8 / 255, "l2": 1.0, "status": "ok", "batch": i // 20,
        "forwards": 1.0, "backwards": 1.0,
    }  # fmt: skip
    return Row(**{**values, **fields})


def rows(robust: float, clean: float = 0.9, **fields: Any) -> list[Row]:
    """``N`` images: the first share is robust, the next only right when clean, the rest wrong."""
    return [
        row(i, float(i < robust * N), float(i < max(clean, robust) * N), **fields) for i in range(N)
    ]


def cell(
    attack: str,
    results: Sequence[Row],
    *,
    eps: float = 8 / 255,
    params: dict[str, Any] | None = None,
    kind: str = "bounded",
    cluster: str = "sample",
    complete: bool = True,
    traits: Traits | None = None,
    **spec: Any,
) -> CellResult:
    fields: dict[str, Any] = {
        "checkpoint": "model", "sha256": "0" * 64, "stats": None, "data": DataSpec(name="toy"),
        "data_hash": "h", "threat_model": ThreatModel(norm="linf", eps=eps), "attack": attack,
        "attack_version": 1, "attack_params": params or {}, "protocol": "white_box",
        "batch_size": 20, "n_draws": 1, "seed": 0,
    }  # fmt: skip
    identity = CellSpec(**{**fields, **spec})
    info = CellInfo.model_validate(
        {
            "cell_id": identity.cell_id, "spec": identity, "complete": complete,
            "attack_kind": kind, "cluster": cluster, "seconds": 0, "machine": "m",
            "versions": {}, "date": "d", "traits": traits,
        }
    )  # fmt: skip
    return CellResult(info, results)


def raised(*cells: CellResult, classes: int = 10) -> set[tuple[str, str]]:
    """The alarms as (attack, code)."""
    names = {c.info.cell_id: c.spec.attack for c in cells}
    return {(names[alarm.cell_id], alarm.code) for alarm in find_alarms(cells, classes)}


SOUND = (
    cell("natural", rows(0.9), kind="none"),
    cell("fgsm", rows(0.60)),
    cell("bim", rows(0.53), params={"n_iter": 10}),
    cell("pgd", rows(0.52), params={"n_iter": 20}),
    cell("pgd", rows(0.515), params={"n_iter": 100}),
    cell("pgd", rows(0.30), eps=16 / 255, params={"n_iter": 20}),
    cell("pgd", rows(0.0), eps=0.5, params={"n_iter": 20}),
    cell("cw", rows(0.55), kind="minimum-norm"),
    cell("square", rows(0.58)),
    cell("noise", rows(0.88)),
    cell("pgd", rows(0.80), protocol="transfer", params={"n_iter": 20}),
    cell("autoattack", [row(i, float(i < 100), linf=0.0 if i < 100 else 0.03) for i in range(N)]),
)


def test_a_sound_table_raises_nothing() -> None:
    assert find_alarms(SOUND, 10) == ()


def test_differences_within_the_interval_raise_nothing() -> None:
    # 3 images of 200: square ahead of pgd, fgsm ahead of bim, more at a larger eps
    cells = (
        cell("square", rows(0.5)),
        cell("pgd", rows(0.515), params={"n_iter": 20}),
        cell("fgsm", rows(0.515)),
        cell("bim", rows(0.53), params={"n_iter": 10}),
        cell("bim", rows(0.545), params={"n_iter": 10}, eps=16 / 255),
    )
    assert raised(*cells) == set()


@pytest.mark.parametrize(
    "control",
    [
        cell("square", rows(0.2)),
        cell("noise", rows(0.2)),
        cell("pgd", rows(0.2), protocol="transfer"),
        cell("pgd", rows(0.2), protocol="fixed_path"),
    ],
)
def test_what_needs_no_gradient_beats_every_gradient_attack(control: CellResult) -> None:
    # autoattack holds a Square of its own, and so hides that its gradients are blind
    cells = (cell("bim", rows(0.82)), cell("deepfool", rows(0.8), kind="minimum-norm"))
    ensemble = cell("autoattack", rows(0.2))
    code = "control_beats_gradient"
    expected = {("bim", code), ("deepfool", code), ("autoattack", code)}
    assert raised(*cells, ensemble, control) == expected


def test_square_may_beat_what_is_not_the_best() -> None:
    cells = (cell("fgsm", rows(0.8)), cell("pgd", rows(0.2)), cell("square", rows(0.4)))
    assert raised(*cells) == set()


def test_only_the_same_setting_is_compared() -> None:
    others = (
        cell("square", rows(0.2), eps=16 / 255),
        cell("square", rows(0.2), checkpoint="other"),
        cell("square", rows(0.2), stats="batch"),
        cell("square", rows(0.2), data_hash="other"),
        cell("square", rows(0.2), adversary="single"),
    )
    for other in others:
        assert raised(cell("pgd", rows(0.8)), other) == set()


def test_single_step_beats_iterative() -> None:
    cells = (cell("torchattacks:FGSM", rows(0.4)), cell("bim", rows(0.6)), cell("pgd", rows(0.3)))
    assert raised(*cells) == {("bim", "single_step_beats_iterative")}
    transferred = [cell(c.spec.attack, c.rows, protocol="transfer") for c in cells]
    assert raised(*transferred) == set()  # single steps are known to transfer better


FREE, ONE, MANY = Traits(gradients="never"), Traits(steps="one"), Traits(steps="many")


def test_alarms_go_by_stored_traits_whatever_the_name() -> None:
    theirs = cell("foolbox:LinfPGD", rows(0.8), traits=MANY)
    beaten = {("foolbox:LinfPGD", "control_beats_gradient")}
    noise = "foolbox:LinfAdditiveUniformNoiseAttack"
    assert raised(theirs, cell(noise, rows(0.2), traits=FREE)) == beaten
    # itself it follows no gradient, so nothing can say that its gradients mislead
    both = cell(noise, rows(0.5), traits=FREE), cell("art:SquareAttack", rows(0.2), traits=FREE)
    assert raised(*both) == set()
    assert raised(*both, theirs) == beaten
    plugin = cell("theirs", rows(0.4), traits=ONE)
    assert raised(plugin, theirs) == {("foolbox:LinfPGD", "single_step_beats_iterative")}
    assert raised(cell("theirs", rows(0.3), eps=0.5, traits=MANY)) == {
        ("theirs", "large_eps_not_near_zero")
    }


def test_an_attack_that_may_return_clean_images_is_not_said_to_do_nothing() -> None:
    idle = [row(i, 1.0, linf=0.0) for i in range(N)]
    assert raised(cell("theirs", idle)) == {("theirs", "images_unchanged")}
    assert raised(cell("theirs", idle, traits=Traits(returns_clean=True))) == set()
    assert raised(cell("torchattacks:FAB", idle)) == set()


def test_accuracy_rises_with_eps() -> None:
    # the step size may follow eps
    small = cell("pgd", rows(0.4), eps=4 / 255, params={"n_iter": 20, "alpha": 0.01})
    large = cell("pgd", rows(0.6), eps=8 / 255, params={"n_iter": 20, "alpha": 0.02})
    (alarm,) = find_alarms((large, small), 10)
    assert (alarm.cell_id, alarm.code) == (large.info.cell_id, "rises_with_eps")
    assert "4/255" in alarm.text and "20.0 points" in alarm.text


@pytest.mark.parametrize(("robust", "fires"), [(0.3, True), (0.12, False), (0.0, False)])
def test_a_very_large_eps_must_reach_chance(robust: float, fires: bool) -> None:
    found = raised(cell("pgd", rows(robust), eps=0.5))
    assert found == ({("pgd", "large_eps_not_near_zero")} if fires else set())
    assert raised(cell("noise", rows(robust), eps=0.5)) == set()


def test_an_attack_that_changes_nothing() -> None:
    idle = [row(i, 1.0, linf=0.0) for i in range(N)]
    assert raised(cell("cw", idle, kind="minimum-norm")) == {("cw", "images_unchanged")}
    # half of the right images, and those that were wrong already, may stay
    half = [row(i, 1.0, linf=0.0 if i < N / 2 else 0.03) for i in range(N)]
    wrong = [row(i, 0.0, clean=0.0, linf=0.0) for i in range(N // 3)]
    moved = [row(i, 0.0) for i in range(N // 3, N)]
    assert raised(cell("pgd", half)) == raised(cell("pgd", wrong + moved)) == set()


def test_success_without_perturbation() -> None:
    found = [row(0, 0.0, linf=0.0), *(row(i, 0.0) for i in range(1, N))]
    code = "broken_without_change"
    assert raised(cell("deepfool", found, kind="minimum-norm")) == {("deepfool", code)}
    # expected where draws or companions differ
    assert raised(cell("deepfool", found, kind="minimum-norm", n_draws=20)) == set()
    assert raised(cell("deepfool", found, kind="minimum-norm", cluster="batch")) == set()


def test_an_attack_that_helps_the_model() -> None:
    better = [row(i, float(i < 160), float(i < 120)) for i in range(N)]
    assert raised(cell("pgd", better, protocol="transfer")) == {("pgd", "higher_than_clean")}


@pytest.mark.parametrize("effort", ["n_iter", "eot_iter"])
def test_more_effort_still_breaks_more(effort: str) -> None:
    def at(value: int, robust: float) -> CellResult:
        params = {"n_iter": value if effort == "n_iter" else 10}
        eot_iter = value if effort == "eot_iter" else 1
        return cell("pgd", rows(robust), params=params, eot_iter=eot_iter, n_draws=20)

    cells = at(1, 0.7), at(5, 0.5), at(20, 0.49)
    (alarm,) = find_alarms(cells, 10)
    assert (alarm.cell_id, alarm.code) == (cells[0].info.cell_id, "not_converged")
    assert alarm.text.startswith(f"{effort} 20 in place of 1 lowers")


def test_cells_that_differ_in_more_than_effort_are_no_ladder() -> None:
    short = cell("pgd", rows(0.7), params={"n_iter": 10, "alpha": 0.001})
    long = cell("pgd", rows(0.5), params={"n_iter": 20, "alpha": 0.01})
    assert raised(short, long) == set()


@pytest.mark.parametrize(
    ("attack", "params", "needed"),
    [
        ("apgd", {"loss": "dlr"}, 3),
        ("apgd", {"loss": "ce"}, 2),
        ("apgd_t", {}, 4),
        ("torchattacks:APGDT", {}, 4),
        ("autoattack", {"version": "standard", "components": []}, 4),
        ("autoattack", {"version": "custom", "components": ["apgd_ce", "square"]}, 2),
        ("pyautoattack", {"version": "rand"}, 3),
        ("auto", {}, 2),
    ],
)
def test_too_few_classes(attack: str, params: dict[str, Any], needed: int) -> None:
    one = cell(attack, rows(0.0), params=params)
    assert raised(one, classes=needed) == set()
    if needed > 2:
        assert raised(one, classes=needed - 1) == {(attack, "too_few_classes")}


def test_clean_accuracy_below_chance() -> None:
    assert raised(cell("natural", rows(0.0, clean=0.02), kind="none")) == {
        ("natural", "clean_below_chance")
    }
    assert raised(cell("natural", rows(0.1, clean=0.1), kind="none")) == set()


@pytest.mark.parametrize(
    ("n", "right", "classes", "code"),
    [
        (200, 0, 1000, "clean_near_zero"),  # 1.9 % at most, where chance is 0.1 %
        (200, 3, 1000, "clean_near_zero"),
        (200, 12, 1000, None),  # 6 %, well above chance
        (12, 0, 10, "clean_near_zero"),
        (11, 0, 10, None),  # so few may be wrong by bad luck
        (200, 0, 10, "clean_below_chance"),
        (200, 20, 10, None),
    ],
)
def test_all_wrong_from_the_start(n: int, right: int, classes: int, code: str | None) -> None:
    """Robust accuracy of nothing is nothing, however many classes there are."""
    results = [row(i, 0.0, float(i < right)) for i in range(n)]
    expected = set() if code is None else {("pgd", code)}
    assert raised(cell("pgd", results), classes=classes) == expected


@pytest.mark.parametrize(
    ("n", "classes", "alarm"), [(200, 10, True), (5, 10, True), (3, 10, False), (5, 2, False)]
)
def test_a_slice_of_one_class(n: int, classes: int, alarm: bool) -> None:
    """A few images may be of one class by chance."""
    results = [row(i, 1.0, label=3, clean_pred=3, adv_pred=3) for i in range(n)]
    expected = {("pgd", "one_class")} if alarm else set()
    assert raised(cell("pgd", results), classes=classes) == expected
    mixed = [*results[1:], row(0, 1.0, label=4, clean_pred=4, adv_pred=4)]
    assert raised(cell("pgd", mixed), classes=classes) == set()


def test_one_batch_has_no_interval() -> None:
    alone = rows(0.5, batch=0)
    assert raised(cell("pgd", alone, cluster="batch")) == {("pgd", "no_interval")}
    assert raised(cell("pgd", alone)) == set()


def test_batches_as_clusters_widen_the_interval() -> None:
    # square breaks all of one batch of ten: 20 images, but a single independent gain
    ahead = [row(i, float(i >= 20)) for i in range(N)]
    same = [row(i, 1.0) for i in range(N)]
    assert raised(cell("pgd", same), cell("square", ahead)) != set()
    clustered = cell("pgd", same, cluster="batch"), cell("square", ahead, cluster="batch")
    assert raised(*clustered) == set()


def test_incomplete_cells_have_no_say() -> None:
    broken = cell("square", [row(0, 0.0)], complete=False)
    assert raised(cell("pgd", rows(0.8)), broken, cell("noise", [], complete=False)) == set()


# --- the convergence sweep ------------------------------------------------------------------


def sweep_base(**spec: Any) -> CellSpec:
    return cell("pgd", rows(0.5), params={"n_iter": 10, "alpha": 0.01}, **spec).spec


def effort(spec: CellSpec) -> tuple[int, int]:
    return spec.eot_iter, spec.attack_params["n_iter"]


SUBSET = DataSpec(name="toy", limit=64)


def test_the_sweep_of_a_deterministic_model() -> None:
    sweep = convergence_sweep(sweep_base(), SUBSET, "sub", stochastic=False)
    assert [effort(c) for c in sweep.cells] == [(1, 10), (1, 20), (1, 40)]
    assert {(c.data, c.data_hash) for c in sweep.cells} == {(SUBSET, "sub")}


def test_the_sweep_over_draws_has_an_equal_budget() -> None:
    sweep = convergence_sweep(sweep_base(eot_iter=20, n_draws=20), SUBSET, "s", stochastic=True)
    assert [effort(c) for c in sweep.draws] == [(1, 500), (5, 100), (20, 25), (50, 10)]
    assert [effort(c) for c in sweep.iterations] == [(20, 10), (20, 20), (20, 40)]
    assert len({c.cell_id for c in sweep.cells}) == len(sweep.cells) == 7
    own = convergence_sweep(sweep_base(eot_iter=7, n_draws=20), SUBSET, "s", stochastic=True)
    assert (7, 71) in [effort(c) for c in own.draws]  # the cell's own draws are always among them


def test_a_sweep_needs_iterations_and_white_box() -> None:
    for spec in (cell("fgsm", rows(0.5)).spec, sweep_base(protocol="transfer")):
        with pytest.raises(ValueError, match="white_box attack with n_iter"):
            convergence_sweep(spec, SUBSET, "s", stochastic=False)


def swept(numbers: dict[tuple[int, int], float]) -> tuple[CellSpec, tuple[Alarm, ...]]:
    base = sweep_base(eot_iter=1, n_draws=20)
    sweep = convergence_sweep(base, SUBSET, "s", stochastic=True)
    results = []
    for spec in sweep.cells:
        fields = {name: getattr(spec, name) for name in CellSpec.model_fields}
        params = fields.pop("attack_params")
        threat = fields.pop("threat_model")
        attack = fields.pop("attack")
        found = rows(numbers.get(effort(spec), 0.5))
        results.append(cell(attack, found, params=params, eps=threat.eps, **fields))
    assert {r.info.cell_id for r in results} == {c.cell_id for c in sweep.cells}
    return base, sweep_alarms(sweep, results)


def test_a_sweep_that_has_converged() -> None:
    assert swept({(1, 40): 0.49, (50, 10): 0.51})[1] == ()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({(1, 40): 0.3}, "n_iter 40 in place of 10"),
        ({(20, 25): 0.3, (50, 10): 0.35}, "eot_iter 20 in place of 1"),
    ],
)
def test_a_sweep_that_has_not(numbers: dict[tuple[int, int], float], words: str) -> None:
    base, alarms = swept(numbers)
    assert [(a.cell_id, a.code) for a in alarms] == [(base.cell_id, "not_converged")]
    assert words in alarms[0].text
