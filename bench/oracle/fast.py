"""The way in which a device runs a model fastest; what a search finds is confirmed in float32."""

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
from bench.norms.affine import folds
from bench.oracle.engine import ENGINES, EXACT, Engine, Twin, out_of_memory
from bench.oracle.side_by_side import replicas, side_by_side, threads

# What was found out about this machine, kept so that it is the same in every run.
#
# Engines are chosen by timing them, and a busy moment may decide between two that are nearly equal.
# An answer that is kept makes a repeated run repeat itself to the last bit, and saves the timing.


def settled(key: str, find_out: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Returns the kept answer to a question, or finds one out and keeps it.

    Of several processes that find out at the same time, the first to finish is believed by all.
    Where nothing can be kept, each finds out for itself.

    Args:
        key: Fit for a file name; names all that the answer depends on.
        find_out: Called without a kept answer; what it returns goes through JSON, ``None`` is not
            kept.
    """
    path = cache_folder() / "engines" / f"{key}.json"
    kept = _read(path)
    if kept is not None:
        return kept
    found = find_out()
    if found is not None:
        _keep(path, found)
        return _read(path) or found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _keep(path: Path, found: dict[str, Any]) -> None:
    """Writes an answer unless there is one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(found, file)
        try:
            if _read(path) is None:
                path.unlink(missing_ok=True)  # damaged
            os.link(name, path)  # fails where another process was first
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        return


GAIN, SMALL_GAIN = 1.15, 1.03
"""Times faster than the model itself that low precision, and another layout in float32, must be to
be used: below that, confirming eats the gain."""

N_TIMED, LARGE = 16, 64
"""Images that a model is timed with; 2 of more than 64 x 64 pixels."""

N_ROUNDS = 5
"""Times that an engine is timed."""

WORSE, LONG, LARGEST = 1.03, 1.0, 256
"""A pass grows twofold while an image takes no longer than this many times the least so far, and
the pass less than a second; on a CPU, which gains little and pays in memory, to so many images."""

MODELS = 256
"""Models that may be compiled in one process: PyTorch gives up after eight calls of one function,
without a word, where every model's ``forward`` is such a call."""

Run = Callable[[Twin, Tensor], Tensor]
"""Passes images through a model as a twin runs it, to logits."""

_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Twin]] = WeakKeyDictionary()
"""What was found out for each model, by the shape and the device of its images."""

_COMPILED: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Twin]] = WeakKeyDictionary()
"""Likewise, with ``torch.compile`` where that pays."""


def fastest_twin(model: nn.Module, x: Tensor, run: Run, most: int) -> Twin:
    """Returns how a model is attacked fastest on a device.

    Found out by timing a few forward and backward passes in each engine, in turns, once for each
    kind of model and machine (see ``bench.oracle.fast``). A model whose weights have changed is
    laid out anew.

    Args:
        model: In eval mode.
        x: Images (b, c, h, w) on the device; the first few are used.
        run: Passes images through a twin, to logits.
        most: Images in a pass, at most; 0 to leave their number open.
    """
    known = _KNOWN.setdefault(model, {})
    key = (tuple(x.shape[1:]), x.device, bool(most), _state(model))
    if key not in known:
        known.clear()
        few = x[: N_TIMED if max(x.shape[2:]) <= LARGE else 2]
        name = _question(model, x, "grown, by threads" if most else "engine, by threads")
        known[key] = _as_chosen(model, few, settled(name, lambda: _choose(model, few, run, most)))
    return known[key]


def compiled_twin(model: nn.Module, twin: Twin, x: Tensor, run: Run) -> Twin:
    """Returns a twin with ``torch.compile``, tried out and faster; the twin itself where it is not.

    Args:
        model: The model whose twin it is.
        twin: What ``fastest_twin`` returned.
        x: Some images (b, c, h, w).
        run: As for ``fastest_twin``.
    """
    if twin.engine.compiled or find_paths(model) is not None:
        return twin
    key = (twin.engine, tuple(x.shape[1:]), x.device, _state(model))
    known = _COMPILED.setdefault(model, {})
    if key not in known:
        from torch._dynamo import config as dynamo  # takes seconds, which few searches need

        known.clear()
        dynamo.recompile_limit = max(dynamo.recompile_limit, MODELS)
        # It warns of every machine without a GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        faster = replace(
            twin,
            engine=replace(twin.engine, compiled=True, side_by_side=False),
            compiled=torch.compile(twin.copy or _copy(model), dynamic=True),
        )
        n = twin.fits or len(x)
        some = x[torch.arange(n, device=x.device) % len(x)]
        name = _question(model, x, f"compiled {twin.engine} of any size")
        answer = settled(name, lambda: {"compiled": _pays(faster, twin, some, run)})
        known[key] = faster if answer and answer.get("compiled") is True else twin
    return known[key]


def twins_for_threads(twin: Twin, models: Sequence[nn.Module]) -> list[Twin]:
    """Returns a twin for each of some threads, the first of which runs ``twin`` itself.

    Args:
        twin: Not compiled.
        models: A model and its replicas, which run where the twin is no copy.
    """
    if twin.copy is None:
        return [twin, *(replace(twin, copy=model) for model in models[1:])]
    return [replace(twin, copy=one) for one in replicas(twin.copy, len(models))]


def _pays(compiled: Twin, twin: Twin, x: Tensor, run: Run) -> bool:
    """Says whether compiling works, and makes passes faster."""
    try:
        with torch.no_grad():
            run(compiled, x)
    except Exception:  # no compiler, or a model that it cannot take
        return False
    raced = _race([twin, compiled], x, run)
    return len(raced) == 2 and raced[1].seconds * GAIN < raced[0].seconds


def _choose(model: nn.Module, x: Tensor, run: Run, most: int) -> dict[str, Any] | None:
    """Returns the fastest engine, as ``_as_chosen`` reads it; ``None`` for a model that fails.

    Where the threads of a CPU may take images of their own, layouts are timed in one thread, and
    the fastest of them with all threads, cut by images and by operations.
    """
    n = torch.get_num_threads() if most and x.device.type == "cpu" else 1
    candidates = _candidates(model, x)
    with threads(1) if n > 1 else nullcontext():
        raced = _race(candidates, x, run)
    if not raced:
        return None
    if _moved(model, candidates):
        return {"engine": str(EXACT), "seconds": raced[0].seconds, "fits": None}
    best = min(raced, key=lambda twin: twin.seconds * _handicap(twin.engine))
    if n > 1:
        best = _with_threads(model, best, n, x, run)
    fits, each = _grow(best, x, run, most) if most else (None, best.seconds)
    return {"engine": str(best.engine), "seconds": each, "fits": fits}


def _moved(model: nn.Module, twins: list[Twin]) -> bool:
    """Says whether passes have changed a buffer of a twin's copy.

    Such a model is searched as it is: on a copy nobody would see that an attack changes it.
    """
    layers = nn.Conv2d | nn.Linear  # whose weights an engine lays out anew
    own = {name for name, module in model.named_modules() if not isinstance(module, layers)}
    for twin in twins:
        for name, buffer in twin.copy.named_buffers() if twin.copy is not None else ():
            if name.rpartition(".")[0] in own and not torch.equal(buffer, model.get_buffer(name)):
                return True
    return False


def _handicap(engine: Engine) -> float:
    """Returns how many times faster than the exact engine one must be."""
    if engine.exact:
        return 1.0
    return GAIN if engine.low else SMALL_GAIN


def _with_threads(model: nn.Module, twin: Twin, n_threads: int, x: Tensor, run: Run) -> Twin:
    """Returns a twin by which all threads run a batch fastest, with its seconds an image."""
    engine = replace(twin.engine, side_by_side=True)
    each = twins_for_threads(replace(twin, engine=engine), replicas(model, n_threads))
    if len(each) < n_threads:
        return twin
    n = 2 * len(x) * n_threads
    some = x[torch.arange(n, device=x.device) % len(x)]
    parts = some.chunk(n_threads)

    def apart() -> float:
        return seconds(lambda: side_by_side(each, lambda own, part: _timed(own, part, run), parts))

    times = race(
        {twin: partial(_timed, twin, some, run), each[0]: apart},
        N_ROUNDS,
        forgive=(Exception,),
        clock=lambda call: float(call()),  # type: ignore[arg-type]
    )
    if not times:
        return twin
    best = min(times, key=lambda one: times[one])
    return replace(best, seconds=times[best] / n)


def _as_chosen(model: nn.Module, x: Tensor, choice: dict[str, Any] | None) -> Twin:
    """Returns the twin that a choice describes; the exact one where it cannot be had."""
    known = [*ENGINES, *(replace(engine, side_by_side=True) for engine in ENGINES)]
    engines = {str(engine): engine for engine in known}
    try:
        assert choice is not None
        engine, fits = engines[choice["engine"]], choice["fits"]
        seconds = float(choice["seconds"])
        twin = _twin(model, engine, x)
        assert twin is not None
        return replace(twin, seconds=seconds, fits=None if fits is None else max(1, int(fits)))
    except Exception:  # a choice of another version, or foreign code that is not laid out alike
        return Twin(EXACT)


def _grow(twin: Twin, x: Tensor, run: Run, most: int) -> tuple[int, float]:
    """Returns how many images a pass holds best, and the seconds that each takes in all threads."""
    most = min(most, LARGEST) if x.device.type == "cpu" else most
    apart = twin.engine.side_by_side
    n = len(x)
    with threads(1) if apart else nullcontext():
        first = best = min(_timed(twin, x, run) for _ in range(N_ROUNDS)) / n
        while 2 * n <= most and n * best < LONG:
            larger = x[torch.arange(2 * n, device=x.device) % len(x)]
            try:
                taken = min(_timed(twin, larger, run) for _ in range(N_ROUNDS)) / (2 * n)
            except RuntimeError as error:
                if out_of_memory(error):
                    break
                raise
            if taken > WORSE * best:
                break
            n, best = 2 * n, min(best, taken)
        gained = best / first
    return min(n, most), twin.seconds * gained if apart else best


def _candidates(model: nn.Module, x: Tensor) -> list[Twin]:
    """Returns twins of a model in every engine, as far as it can be laid out for them."""
    twins = []
    for engine in ENGINES:
        if engine.low and x.device.type == "cpu" and not has_bfloat16():
            continue
        try:
            twins.append(_twin(model, engine, x))
        except Exception:  # foreign code that cannot be laid out
            continue
    return [twin for twin in twins if twin is not None]


def _race(twins: list[Twin], x: Tensor, run: Run) -> list[Twin]:
    """Returns twins with the shortest time that a pass over an image took, there and back.

    Those that fail are left out, all of them where the first one does: that is for the attack to
    meet.
    """
    times = race(
        {number: partial(_timed, twin, x, run) for number, twin in enumerate(twins)},
        N_ROUNDS,
        forgive=(Exception,),  # foreign code, or a device, that knows no low precision
        clock=lambda call: float(call()),  # type: ignore[arg-type]
    )
    if 0 not in times:
        return []
    return [replace(twins[number], seconds=times[number] / len(x)) for number in sorted(times)]


def _twin(model: nn.Module, engine: Engine, x: Tensor) -> Twin | None:
    """Returns the model as an engine holds it, or ``None`` where nothing can be folded."""
    if engine.exact:
        return Twin(engine)
    if engine.folded and find_paths(model) is not None:
        return None
    try:
        laid_out = _copy(model)
    except Exception:  # foreign code that cannot be copied
        return None if engine.folded or engine.channels_last else Twin(engine)
    if engine.folded and not folds(laid_out, model, x):
        return None
    if engine.channels_last and not any(isinstance(m, nn.Conv2d) for m in laid_out.modules()):
        return None
    if engine.channels_last:
        laid_out = laid_out.to(memory_format=torch.channels_last)
    for module in laid_out.modules():
        if engine.low and isinstance(module, nn.Conv2d | nn.Linear):
            module.to(engine.dtype)  # which autocast would convert anew in every pass
    return Twin(engine, laid_out)


def _copy(model: nn.Module) -> nn.Module:
    paths = find_paths(model)
    memo = {} if paths is None else {id(paths): paths}
    return copy.deepcopy(model, memo).requires_grad_(False)


def _question(model: nn.Module, x: Tensor, what: str) -> str:
    """Returns a hash of all on which the speed of a model's passes depends."""
    device = x.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    layers = [
        (type(module).__qualname__, getattr(module, "stats", "")) for module in model.modules()
    ]
    shape = [str(model), layers, list(x.shape[1:])]
    return digest([what, shape, name, torch.get_num_threads(), str(torch.__version__)])


def _state(model: nn.Module) -> tuple[object, ...]:
    """Returns what changes when a weight or buffer does."""
    tensors = [*model.parameters(), *model.buffers()]
    sums = [t.detach().double().sum() for t in tensors]
    total = torch.stack([s.cpu() for s in sums]).tolist() if sums else []
    modes = tuple(module.training for module in model.modules())
    return (*total, *(t._version for t in tensors), modes)


def _timed(twin: Twin, x: Tensor, run: Run) -> float:
    started = time.perf_counter()
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        z = run(twin, x)
    if z.requires_grad:
        torch.autograd.grad(z.float().sum(), x)
    float(z.detach().sum())  # waits for a GPU
    return time.perf_counter() - started
