"""The complete methods against others, and against points that anybody can try."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize
from torch import nn

from bench.selftest.proofs import (
    SLACK,
    Layers,
    layers_of,
    least_distance,
    logits,
    most_violation,
    prove_l2,
    prove_linf,
)
from bench.verify.verifier import TOLERANCE

Array = NDArray[np.float64]
INPUTS, CLASSES = 3, 3


def network(seed: int, widths: tuple[int, ...]) -> tuple[nn.Sequential, Layers]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = [INPUTS, *widths]
        parts: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            parts += [nn.Linear(before, after), nn.ReLU()]
        net = nn.Sequential(*parts, nn.Linear(sizes[-1], CLASSES)).double()
        for parameter in net.parameters():
            parameter.data *= 2
    return net, layers_of(net)


def violations(layers: Layers, points: Array, y: int) -> Array:
    z = np.stack([logits(layers, x) for x in points])
    return np.asarray(np.delete(z, y, axis=1).max(1) - z[:, y])


def by_patterns(layers: Layers, low: Array, high: Array, y: int, other: int) -> float:
    """Solves a linear program for each activation pattern of one or two hidden layers."""
    best = -np.inf
    widths = [len(bias) for _, bias in layers[:-1]]
    for signs in product([False, True], repeat=sum(widths)):
        slope, value, at = np.eye(INPUTS), np.zeros(INPUTS), 0
        rows, ends = [], []
        for weight, bias in layers[:-1]:
            slope, value = weight @ slope, weight @ value + bias
            active = np.array(signs[at : at + len(bias)])
            at += len(bias)
            rows.append(np.where(active, -1, 1)[:, None] * slope)
            ends.append(np.where(active, value, -value))
            slope, value = slope * active[:, None], value * active
        weight, bias = layers[-1]
        cost = (weight[other] - weight[y]) @ slope
        found = linprog(
            -cost,
            A_ub=np.vstack(rows),
            b_ub=np.concatenate(ends),
            bounds=list(zip(low, high, strict=True)),
        )
        if found.status == 0:
            offset = (weight[other] - weight[y]) @ value + bias[other] - bias[y]
            best = max(best, -found.fun + offset)
    return float(best)


@pytest.mark.parametrize(("seed", "widths"), [(0, (6,)), (1, (6,)), (2, (4, 3)), (3, (3, 4))])
def test_the_integer_program_is_the_best_of_all_linear_ones(
    seed: int, widths: tuple[int, ...]
) -> None:
    _, layers = network(seed, widths)
    random = np.random.default_rng(seed)
    low = random.uniform(0, 0.6, INPUTS)
    high = low + 0.4
    for y, other in ((0, 1), (2, 0)):
        expected = by_patterns(layers, low, high, y, other)
        bound, point = most_violation(layers, low, high, y, other)
        if point is None:
            assert expected <= bound < -SLACK
            continue
        assert bound == pytest.approx(expected, rel=1e-3, abs=1e-6)
        z = logits(layers, point)
        assert z[other] - z[y] == pytest.approx(bound, rel=1e-3, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), eps=st.floats(0.05, 0.4), deep=st.booleans())
def test_a_proof_in_linf_agrees_with_a_dense_grid(seed: int, eps: float, deep: bool) -> None:
    _, layers = network(seed, (5, 3) if deep else (6,))
    x = np.random.default_rng(seed).uniform(0, 1, INPUTS)
    y = int(logits(layers, x).argmax())
    proof = prove_linf(layers, x, y, eps)
    axes = [np.linspace(max(v - eps, 0), min(v + eps, 1), 9) for v in x]
    tried = violations(layers, np.array(list(product(*axes))), y)
    if proof.verdict == "robust":
        assert tried.max() < 0
    if tried.max() > 2 * SLACK:
        assert proof.verdict == "broken"
    if proof.witness is not None:
        inside = proof.witness
        assert np.abs(inside - x).max() <= eps + 1e-12 and 0 <= inside.min() <= inside.max() <= 1
        assert violations(layers, inside[None], y)[0] > SLACK


def nearest_by_slsqp(layers: Layers, x: Array, y: int, eps: float, seed: int) -> float:
    """Returns the shortest way out of the class that a local method finds from many starts."""
    random, best = np.random.default_rng(seed), np.inf
    for other in {*range(CLASSES)} - {y}:

        def surplus(point: Array, other: int = other) -> float:
            z = logits(layers, point)
            return float(z[other] - z[y])

        starts = x + random.uniform(-1.5, 1.5, (12, INPUTS)) * eps
        for start in starts.clip(0, 1):
            found: Any = minimize(
                lambda point: float(((point - x) ** 2).sum()),
                start,
                jac=lambda point: 2 * (point - x),
                bounds=[(0, 1)] * INPUTS,
                constraints={"type": "ineq", "fun": surplus},
                method="SLSQP",
            )
            if found.success and surplus(found.x) > -1e-9:
                best = min(best, float(np.linalg.norm(found.x - x)))
    return best


@pytest.mark.process
@pytest.mark.parametrize("seed", range(5))
def test_a_proof_in_l2_agrees_with_a_local_method_from_many_starts(seed: int) -> None:
    _, layers = network(seed, (6,) if seed % 2 else (4, 3))
    x = np.random.default_rng(seed).uniform(0.1, 0.9, INPUTS)
    y = int(logits(layers, x).argmax())
    distance = nearest_by_slsqp(layers, x, y, 0.7, seed)
    if distance > 1.5:
        assert prove_l2(layers, x, y, 0.4).verdict == "robust"
        return
    assert prove_l2(layers, x, y, distance * 0.99 - 1e-3).verdict == "robust"
    proof = prove_l2(layers, x, y, distance * 1.01 + 2e-3)
    assert proof.verdict == "broken" and proof.witness is not None
    assert np.linalg.norm(proof.witness - x) <= distance * 1.01 + 2e-3
    assert violations(layers, proof.witness[None], y)[0] > SLACK


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), eps=st.floats(0.05, 0.6))
def test_no_random_point_contradicts_a_proof_in_l2(seed: int, eps: float) -> None:
    _, layers = network(seed, (6,))
    random = np.random.default_rng(seed)
    x = random.uniform(0, 1, INPUTS)
    y = int(logits(layers, x).argmax())
    steps = random.normal(size=(400, INPUTS))
    steps *= (
        eps
        * random.uniform(size=(400, 1)) ** (1 / INPUTS)
        / np.linalg.norm(steps, axis=1, keepdims=True)
    )
    tried = violations(layers, (x + steps).clip(0, 1), y).max()
    verdict = prove_l2(layers, x, y, eps).verdict
    assert verdict != "robust" if tried > 0 else True
    assert verdict == "broken" if tried > 10 * SLACK else True


@pytest.mark.parametrize("prove", [prove_linf, prove_l2])
def test_a_closest_call_is_left_open(prove: Any) -> None:
    """Of a linear network the distance to the boundary is known: here 0.25 in both norms."""
    layers = [(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0.0, 0.5]))]
    x = np.array([0.75, 0.5])
    verdicts = [prove(layers, x, 0, eps).verdict for eps in (0.249, 0.25, 0.251)]
    assert verdicts == ["robust", "open", "broken"]
    assert prove(layers, np.array([0.5, 0.5]), 1, 0.6).verdict == "broken"
    far = [(np.eye(2), np.array([1.5, 0.0]))]  # only pixels above 1 would change it
    assert prove(far, np.array([0.5, 0.5]), 0, 5.0).verdict == "robust"


def test_what_the_verifier_lets_pass_counts_for_the_adversary() -> None:
    slope = 1e4
    layers = [(np.array([[slope, 0.0], [0.0, 0.0]]), np.array([0.0, 0.5 * slope]))]
    x = np.array([0.75, 0.5])
    for prove in (prove_linf, prove_l2):
        assert prove(layers, x, 0, 0.25 - 0.9 * TOLERANCE).verdict == "open"
        assert prove(layers, x, 0, 0.25 - 3 * TOLERANCE).verdict == "robust"


def test_the_least_distance_is_that_of_a_projection() -> None:
    bound, step = least_distance(np.array([[3.0, 4.0]]), np.array([10.0]))
    assert bound == pytest.approx(2) and step is not None
    assert step == pytest.approx(np.array([1.2, 1.6]))
    assert least_distance(np.array([[1.0, 0.0]]), np.array([-1.0]))[0] == 0
    bound, step = least_distance(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([1.0, 1.0]))
    assert bound > 1e3 and step is None


def test_what_is_no_relu_network_is_refused() -> None:
    with pytest.raises(ValueError, match="ReLU between each two"):
        layers_of(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)))
