"""Small runs of analyses with values made by hand, for their reports to read."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from report_runs import HOSTILE, suite_of

from bench.core.analysis import AnalysisAttack, AnalysisInfo, AnalysisSpec, Subject
from bench.core.cell import DataSpec
from bench.core.threat import ThreatModel
from bench.store.analysis_store import AnalysisStore
from bench.store.manifest import Manifest, ManifestAnalysis, ManifestCell
from bench.store.run_store import RunStore

MODELS = [
    {"checkpoint": "fmnist-resnet20-bn", "label": "bn"},
    {"checkpoint": "fmnist-resnet20-rn", "label": "rn", "stats": "batch"},
    {"checkpoint": "fmnist-resnet20-rna-at", "label": HOSTILE},
]
PGD = {"attack": "pgd", "label": "PGD", "params": {"n_iter": 20}}
N_DRAWS = [1, 1, 20]
STATS = ["population", "batch", None]


def spec_of(entry: dict[str, Any], index: int) -> AnalysisSpec:
    subjects = [
        Subject(
            checkpoint=model["checkpoint"],
            sha256=f"{i:x}" * 64,
            stats=STATS[i],
            batch_size=4,
            n_draws=N_DRAWS[i],
            eot_iter=5 if N_DRAWS[i] > 1 else 1,
        )
        for i, model in enumerate(MODELS)
        if model["label"] in entry["models"]
    ]
    attack = AnalysisAttack(attack="pgd", version=1, params={"n_iter": 20})
    return AnalysisSpec(
        analysis=entry["analysis"],
        version=1,
        params=entry.get("params", {}),
        subjects=tuple(subjects),
        data=DataSpec(name="fashion-mnist", limit=8, seed=0),
        data_hash="0123",
        threat_model=ThreatModel(eps=0.1),
        attack=attack if "attack" in entry else None,
        seed=index,
    )


def analysis_run(
    folder: Path,
    entries: Sequence[dict[str, Any]],
    values: Sequence[pd.DataFrame | str | None],
    **suite: Any,
) -> Path:
    """Writes a run of analyses: a table of values, why there is none, or ``None`` if not run."""
    kinds = list(dict.fromkeys(entry["analysis"] for entry in entries))
    entries = [{"label": entry["analysis"], **entry} for entry in entries]
    store = AnalysisStore(folder)
    planned = []
    for i, (entry, found) in enumerate(zip(entries, values, strict=True)):
        spec = spec_of(entry, i)
        planned.append(
            ManifestAnalysis(
                index=i,
                label=entry["label"],
                models=tuple(entry["models"]),
                analysis_id=spec.analysis_id,
            )
        )
        if found is None:
            continue
        info = AnalysisInfo(
            analysis_id=spec.analysis_id,
            spec=spec,
            complete=not isinstance(found, str),
            error=found if isinstance(found, str) else "",
            seconds=1.0,
            machine="cpu, 2 threads",
            versions={"python": "3.11.7", "torch": "2.8.0"},
            date="2026-01-01T10:00:00Z",
        )
        store.write(info, pd.DataFrame() if isinstance(found, str) else found)
    content = suite_of(kinds, MODELS, [PGD], analyses=entries, **suite)
    cells: tuple[ManifestCell, ...] = ()
    RunStore(folder).write_manifest(Manifest(suite=content, cells=cells, analyses=tuple(planned)))
    return folder


def shift_values() -> pd.DataFrame:
    """Two batches, two layers, three channels; attacked shifts are three times the clean ones."""
    rows = []
    for model, spread in ((0, "var"), (1, "range")):
        for batch, layer, channel in itertools.product(range(2), range(2), range(3)):
            for statistic, images in itertools.product(("mean", spread), ("clean", "attacked")):
                size = 0.01 * (1 + batch + layer + 2 * channel + 5 * model)
                size *= (3 if images == "attacked" else 1) * (-1) ** channel
                rows.append(
                    {
                        "model": model,
                        "batch": batch,
                        "n": 4,
                        "layer": layer,
                        "name": f"net.norm{layer + 1}",
                        "channel": channel,
                        "statistic": statistic,
                        "images": images,
                        "population": 2.0,
                        "difference": 2 * size,
                        "relative": size,
                    }
                )
    return pd.DataFrame(rows)


def similarity_values() -> pd.DataFrame:
    """Eight images and three pairs, one of which lacks a direction on three images."""
    cosines = {
        (0, 1): np.linspace(0.1, 0.8, 8),
        (0, 2): np.linspace(-0.25, 0.1, 8),
        (1, 2): np.array([np.nan, 0.2, np.nan, 0.3, 0.3, np.nan, 0.4, 0.05]),
    }
    rows = [
        {"first": i, "second": j, "index": 100 + k, "cosine": float(value)}
        for (i, j), values in cosines.items()
        for k, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def surface_values() -> pd.DataFrame:
    """Three by three points of two models: a plane, and a bowl."""
    loss: list[Callable[[float, float], float]] = [
        lambda u, v: 1 + u + 0.1 * v,
        lambda u, v: 0.5 + u**2 + v**2,
    ]
    rows = [
        {
            "model": model,
            "along_gradient": u,
            "along_random": v,
            "loss": loss[model](u, v),
            "sd": 0.5,
            "n": 8,
        }
        for model in range(2)
        for u, v in itertools.product((-1.0, 0.0, 1.0), repeat=2)
    ]
    return pd.DataFrame(rows)


def path_values() -> pd.DataFrame:
    """Two pairs for each of three numbers of layers, over 8 images."""
    rows = [
        {
            "model": 0,
            "difference": d,
            "pair": pair,
            "accuracy": (2 + 2 * d + pair) / 8,
            "n": 8,
            "attacked": "00",
            "scored": "00"[d:] + "11"[:d],
        }
        for d in range(3)
        for pair in range(2)
    ]
    return pd.DataFrame(rows)


def png(shade: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.full((4, 4), shade, np.uint8)).save(target, "PNG")
    return target.getvalue()


def example_values() -> pd.DataFrame:
    """Two images seen by two models; the first is fooled."""
    rows = []
    for model, place in itertools.product(range(2), range(2)):
        fooled = model == 0
        rows.append(
            {
                "model": model,
                "place": place,
                "index": 100 + place,
                "label": 9,
                "label_name": "Ankle boot",
                "clean_pred": 9,
                "clean_name": "Ankle boot",
                "clean_confidence": 0.99 - 0.1 * place,
                "adv_pred": 7 if fooled else 9,
                "adv_name": "Sneaker" if fooled else "Ankle boot",
                "adv_confidence": 0.75,
                "linf": 0.1,
                "l2": 1.25 + place,
                "magnification": 5.0,
                "clean_png": png(40 * place),
                "adv_png": png(40 * place + 20),
                "difference_png": png(128),
            }
        )
    return pd.DataFrame(rows)


ANALYSES: dict[str, tuple[list[dict[str, Any]], list[Callable[[], pd.DataFrame] | str | None]]] = {
    "statistics_shift": (
        [{"analysis": "statistics_shift", "models": ["bn", "rn"], "attack": "PGD"}],
        [shift_values],
    ),
    "gradient_similarity": (
        [{"analysis": "gradient_similarity", "models": ["bn", "rn", HOSTILE]}],
        [similarity_values],
    ),
    "loss_surface": (
        [
            {"analysis": "loss_surface", "label": "near", "models": ["bn", "rn"]},
            {"analysis": "loss_surface", "label": "far", "models": ["bn", "rn"]},
            {"analysis": "loss_surface", "label": "never", "models": ["bn"]},
        ],
        [surface_values, "MemoryError: 3 GB", None],
    ),
    "path_difference": (
        [{"analysis": "path_difference", "models": [HOSTILE], "attack": "PGD"}],
        [path_values],
    ),
    "examples": (
        [
            {
                "analysis": "examples",
                "models": ["bn", HOSTILE],
                "attack": "PGD",
                "params": {"images": 2, "stratified": True},
            }
        ],
        [example_values],
    ),
}


def run_of(kind: str, folder: Path) -> Path:
    """Writes the run of a kind."""
    entries, values = ANALYSES[kind]
    return analysis_run(folder, entries, [made() if callable(made) else made for made in values])
