"""Chooses the fastest way to run a model's passes on this device, by timing.

Passes may run in low precision, in another memory layout, with norms folded, or compiled; what an
attack finds in them is confirmed in float32 by the verifier. Choices are cached on disk: timings
vary, and two nearly equal engines must not swap places between runs, so that a repeated run gives
the same result to the last bit.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bench.core.host import has_bfloat16, processor, race, seconds
from bench.core.paths import cache_folder
from bench.core.spec import digest
from bench.norms import find_paths
from bench.norms.folding import fold_checked
from bench.oracle.engine import ENGINES, EXACT, Engine, PreparedModel
from bench.oracle.side_by_side import replicas, side_by_side, threads

GAIN, SMALL_GAIN = 1.15, 1.03
"""Least speed-up over the model itself for low precision, and for another layout in float32, to be
used: below that, confirming takes up the gain."""

N_TIMED, LARGE = 16, 64
"""Images that a model is timed with; 2 of more than 64 x 64 pixels."""

N_ROUNDS = 5
"""Timings per engine."""

WORSE, LONG, LARGEST = 1.03, 1.0, 256
"""Pass sizes double while the time per image stays within this factor of the best so far and a pass
takes less than a second; up to so many images on a CPU, where larger passes gain little and cost
memory."""

MODELS = 256
"""Models that may be compiled in one process. PyTorch silently stops compiling a function after
eight versions, and every model's ``forward`` counts as a version."""

Run = Callable[[PreparedModel, Tensor], Tensor]
"""Runs images (b, c, h, w) through a prepared model, to logits."""

_PREPARED: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], PreparedModel]] = (
    WeakKeyDictionary()
)
"""Choices in this process: for each model, by the shape and device of its images."""

_COMPILED: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], PreparedModel]] = (
    WeakKeyDictionary()
)
"""The same for compiled models, where compiling pays."""


_UNWRITTEN: dict[Path, dict[str, Any]] = {}
"""Choices in this process that could not be written, by the file that would hold them."""


def choose_engine(model: nn.Module, x: Tensor, run: Run, most: int) -> PreparedModel:
    """Returns the model prepared for the engine that is fastest on its device.

    A few forward and backward passes are timed in each engine, in turns, once per kind of model and
    machine. A model whose weights have changed is prepared again.

    Args:
        model: In eval mode.
        x: Images (b, c, h, w) on the device; the first few are used.
        run: Runs images through a prepared model.
        most: Most images in a pass; 0 if the pass size is not to be chosen here.
    """
    known = _PREPARED.setdefault(model, {})
    key = (tuple(x.shape[1:]), x.device, bool(most), _weights_state(model))
    if key not in known:
        known.clear()
        few = x[: N_TIMED if max(x.shape[2:]) <= LARGE else 2]
        name = _cache_key(model, x, "grown, by threads" if most else "engine, by threads")
        choice = cached_choice(name, lambda: _time_engines(model, few, run, most))
        known[key] = _as_chosen(model, few, choice)
    return known[key]


def compile_if_faster(
    model: nn.Module, prepared: PreparedModel, x: Tensor, run: Run
) -> PreparedModel:
    """Returns a compiled version of a prepared model if it works and is faster, else the model.

    Args:
        model: The original model.
        prepared: From ``choose_engine``.
        x: Some images (b, c, h, w).
        run: As for ``choose_engine``.
    """
    if prepared.engine.compiled or find_paths(model) is not None:
        return prepared
    key = (prepared.engine, tuple(x.shape[1:]), x.device, _weights_state(model))
    known = _COMPILED.setdefault(model, {})
    if key not in known:
        from torch._dynamo import config as dynamo  # takes seconds, which few searches need

        known.clear()
        dynamo.recompile_limit = max(dynamo.recompile_limit, MODELS)
        # It warns on every machine without a GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        compiled = replace(
            prepared,
            engine=replace(prepared.engine, compiled=True, side_by_side=False),
            compiled=torch.compile(prepared.copy or _copy(model), dynamic=True),
        )
        n = prepared.fits or len(x)
        some = x[torch.arange(n, device=x.device) % len(x)]
        name = _cache_key(model, x, f"compiled {prepared.engine} of any size")
        choice = cached_choice(name, lambda: {"compiled": _pays(compiled, prepared, some, run)})
        known[key] = compiled if choice and choice.get("compiled") is True else prepared
    return known[key]


def one_per_thread(prepared: PreparedModel, models: Sequence[nn.Module]) -> list[PreparedModel]:
    """Returns a prepared model for each thread; the first runs ``prepared`` itself.

    Args:
        prepared: Not compiled.
        models: A model and its replicas, used where ``prepared`` has no copy.
    """
    if prepared.copy is None:
        return [prepared, *(replace(prepared, copy=model) for model in models[1:])]
    return [replace(prepared, copy=one) for one in replicas(prepared.copy, len(models))]


def _time_engines(model: nn.Module, x: Tensor, run: Run, most: int) -> dict[str, Any] | None:
    """Returns the fastest engine, as ``_as_chosen`` reads it; ``None`` for a model that fails.

    If CPU threads may run images of their own, layouts are timed in one thread; then the fastest
    is timed on all threads, split by images and by operations.
    """
    n = torch.get_num_threads() if most and x.device.type == "cpu" else 1
    candidates = _candidates(model, x)
    with threads(1) if n > 1 else nullcontext():
        timed = _race(candidates, x, run)
    if not timed:
        return None
    if _buffers_changed(model, candidates):
        return {"engine": str(EXACT), "seconds": timed[0].seconds, "fits": None}
    best = min(timed, key=lambda one: one.seconds * _handicap(one.engine))
    if n > 1:
        best = _with_threads(model, best, n, x, run)
    fits, each = _grow_passes(best, x, run, most) if most else (None, best.seconds)
    return {"engine": str(best.engine), "seconds": each, "fits": fits}


def _buffers_changed(model: nn.Module, candidates: list[PreparedModel]) -> bool:
    """Returns whether passes have changed a buffer of a candidate's copy.

    Such a model is searched as it is: on a copy, a change made by an attack would go unnoticed.
    """
    layers = nn.Conv2d | nn.Linear  # engines store their weights in another layout
    own = {name for name, module in model.named_modules() if not isinstance(module, layers)}
    for one in candidates:
        for name, buffer in one.copy.named_buffers() if one.copy is not None else ():
            if name.rpartition(".")[0] in own and not torch.equal(buffer, model.get_buffer(name)):
                return True
    return False


def _handicap(engine: Engine) -> float:
    """Returns how many times faster than the exact engine this one must be."""
    if engine.exact:
        return 1.0
    return GAIN if engine.low else SMALL_GAIN


def _with_threads(
    model: nn.Module, prepared: PreparedModel, n_threads: int, x: Tensor, run: Run
) -> PreparedModel:
    """Returns the faster way to use all threads, by images or by operations, with its time."""
    engine = replace(prepared.engine, side_by_side=True)
    each = one_per_thread(replace(prepared, engine=engine), replicas(model, n_threads))
    if len(each) < n_threads:
        return prepared
    n = 2 * len(x) * n_threads
    some = x[torch.arange(n, device=x.device) % len(x)]
    parts = some.chunk(n_threads)

    def by_images() -> float:
        return seconds(lambda: side_by_side(each, lambda own, part: _timed(own, part, run), parts))

    times = race(
        {prepared: partial(_timed, prepared, some, run), each[0]: by_images},
        N_ROUNDS,
        forgive=(Exception,),
        clock=lambda call: float(call()),  # type: ignore[arg-type]
    )
    if not times:
        return prepared
    best = min(times, key=lambda one: times[one])
    return replace(best, seconds=times[best] / n)


def _as_chosen(model: nn.Module, x: Tensor, choice: dict[str, Any] | None) -> PreparedModel:
    """Returns the prepared model that a choice describes, or the exact one if that fails."""
    known = [*ENGINES, *(replace(engine, side_by_side=True) for engine in ENGINES)]
    engines = {str(engine): engine for engine in known}
    try:
        assert choice is not None
        engine, fits = engines[choice["engine"]], choice["fits"]
        seconds = float(choice["seconds"])
        prepared = _prepare(model, engine, x)
        assert prepared is not None
        return replace(prepared, seconds=seconds, fits=None if fits is None else max(1, int(fits)))
    except Exception:  # written by another version, or foreign code that cannot be prepared again
        return PreparedModel(EXACT)


def _grow_passes(prepared: PreparedModel, x: Tensor, run: Run, most: int) -> tuple[int, float]:
    """Returns the best number of images per pass, and the seconds per image over all threads."""
    most = min(most, LARGEST) if x.device.type == "cpu" else most
    apart = prepared.engine.side_by_side
    n = len(x)
    with threads(1) if apart else nullcontext():
        first = best = min(_timed(prepared, x, run) for _ in range(N_ROUNDS)) / n
        while 2 * n <= most and n * best < LONG:
            larger = x[torch.arange(2 * n, device=x.device) % len(x)]
            try:
                taken = min(_timed(prepared, larger, run) for _ in range(N_ROUNDS)) / (2 * n)
            except Exception:  # no memory for it, or foreign code that does not take so many
                break
            if taken > WORSE * best:
                break
            n, best = 2 * n, min(best, taken)
        gained = best / first
    return min(n, most), prepared.seconds * gained if apart else best


def _candidates(model: nn.Module, x: Tensor) -> list[PreparedModel]:
    """Returns the model prepared for every engine that it can run on."""
    candidates = []
    for engine in ENGINES:
        if engine.low and x.device.type == "cpu" and not has_bfloat16():
            continue
        try:
            candidates.append(_prepare(model, engine, x))
        except Exception:  # foreign code that cannot be prepared for this engine
            continue
    return [one for one in candidates if one is not None]


def _race(candidates: list[PreparedModel], x: Tensor, run: Run) -> list[PreparedModel]:
    """Returns candidates with the shortest time per image of a forward and backward pass.

    Those that fail are left out. If the first, the model itself, fails, all are: the attack will
    meet the same error.
    """
    times = race(
        {number: partial(_timed, one, x, run) for number, one in enumerate(candidates)},
        N_ROUNDS,
        forgive=(Exception,),  # foreign code or a device without low precision
        clock=lambda call: float(call()),  # type: ignore[arg-type]
    )
    if 0 not in times:
        return []
    return [replace(candidates[i], seconds=times[i] / len(x)) for i in sorted(times)]


def _prepare(model: nn.Module, engine: Engine, x: Tensor) -> PreparedModel | None:
    """Returns the model prepared for an engine; ``None`` if the engine has nothing to change."""
    if engine.exact:
        return PreparedModel(engine)
    if engine.folded and find_paths(model) is not None:
        return None
    try:
        laid_out = _copy(model)
    except Exception:  # foreign code that cannot be copied
        return None if engine.folded or engine.channels_last else PreparedModel(engine)
    if engine.folded and not fold_checked(laid_out, model, x):
        return None
    if engine.channels_last and not any(isinstance(m, nn.Conv2d) for m in laid_out.modules()):
        return None
    if engine.channels_last:
        laid_out = laid_out.to(memory_format=torch.channels_last)
    for module in laid_out.modules():
        if engine.low and isinstance(module, nn.Conv2d | nn.Linear):
            module.to(engine.dtype)  # autocast would convert the weights in every pass
    return PreparedModel(engine, laid_out)


def _copy(model: nn.Module) -> nn.Module:
    """Copies a model without parameter gradients; RNA paths are shared with the original."""
    paths = find_paths(model)
    memo = {} if paths is None else {id(paths): paths}
    return copy.deepcopy(model, memo).requires_grad_(False)


def _pays(compiled: PreparedModel, plain: PreparedModel, x: Tensor, run: Run) -> bool:
    """Returns whether compiling works and makes passes faster."""
    try:
        with torch.no_grad():
            run(compiled, x)
    except Exception:  # no compiler, or a model that it cannot compile
        return False
    timed = _race([plain, compiled], x, run)
    return len(timed) == 2 and timed[1].seconds * GAIN < timed[0].seconds


def _timed(prepared: PreparedModel, x: Tensor, run: Run) -> float:
    """Returns the seconds of a forward and backward pass."""
    started = time.perf_counter()
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        z = run(prepared, x)
    if z.requires_grad:
        torch.autograd.grad(z.float().sum(), x)
    float(z.detach().sum())  # waits for a GPU
    return time.perf_counter() - started


def _weights_state(model: nn.Module) -> tuple[object, ...]:
    """Returns a value that changes whenever a weight, a buffer or a mode does."""
    tensors = [*model.parameters(), *model.buffers()]
    sums = [_sums(t.detach().double().flatten()) for t in tensors]
    total = torch.stack([s.cpu() for s in sums]).flatten().tolist() if sums else []
    modes = tuple(module.training for module in model.modules())
    return (*total, *(t._version for t in tensors), modes)


def _sums(values: Tensor) -> Tensor:
    """Returns two sums of values (n,); the second changes when two of them swap places."""
    places = torch.linspace(1, 2, len(values), dtype=values.dtype, device=values.device)
    return torch.stack([values.sum(), (values * places).sum()])


def _cache_key(model: nn.Module, x: Tensor, what: str) -> str:
    """Returns a hash of everything that the speed of a model's passes depends on."""
    device = x.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    layers = [
        (type(module).__qualname__, getattr(module, "stats", "")) for module in model.modules()
    ]
    shape = [str(model), layers, list(x.shape[1:])]
    return digest([what, shape, name, torch.get_num_threads(), str(torch.__version__)])


def cached_choice(key: str, find_out: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Returns the cached result for a key; computes and caches it on a miss.

    If several processes compute it at the same time, all use the result of the first to finish. If
    the cache cannot be written, each process uses its own.

    Args:
        key: Fit for a file name; covers everything that the result depends on.
        find_out: Computes the result, which is stored as JSON; ``None`` is not stored.
    """
    path = cache_folder() / "engines" / f"{key}.json"
    cached = _read(path) or _UNWRITTEN.get(path)
    if cached is not None:
        return cached
    found = find_out()
    if found is not None:
        _write_if_absent(path, found)
        written = _read(path)
        if written is None:
            _UNWRITTEN[path] = found
        return written or found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write_if_absent(path: Path, found: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(found, file)
        try:
            if _read(path) is None:
                path.unlink(missing_ok=True)  # damaged
            os.link(name, path)  # fails if another process was first
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        return
