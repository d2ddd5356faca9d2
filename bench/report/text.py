"""Texts around the tables: what was measured, on which data, how, and when."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.adaptive import Adaptive
from bench.core.analysis import AnalysisInfo
from bench.core.attack import params_text, target_text
from bench.core.cell import CellSpec, DataSpec
from bench.core.norm_spec import uses_batch
from bench.core.result import CellInfo
from bench.core.threat import joined
from bench.report.run_view import RunView
from bench.report.table import Section

SCRIPT_L = "\N{SCRIPT SMALL L}"
STATS_TEXT = {
    "population": "population statistics",
    "batch": "batch statistics",
    "tracked-mean": "tracked mean, range of the batch",
}

EOT_TEXT = {
    "stratified": "stratified: over the draws of a gradient, each layer's branches occur equally "
    "often",
    "mean_field": "mean_field: the direction comes from a surrogate, in which each layer returns "
    "the mean of its branches; scored on the model itself",
}


def title(view: RunView) -> str:
    """Returns the suite's title, or its name."""
    return view.suite.title or view.suite.suite


def head(view: RunView, *, attacked: bool = True) -> tuple[str, ...]:
    """Returns the paragraphs above the tables.

    Args:
        view: The run.
        attacked: Whether the tables are about attacks, which have a threat model.
    """
    suite = view.suite
    n = view.common_n()
    count = "n is said beside each number." if n is None else f"n = {n} images for every number."
    balls = suite.threat_models
    ball = suite.threat_model.describe() if len(balls) == 1 else f"the union of {joined(balls)}"
    attacks = [view.attacks[j] for j in view.adversaries()]
    own = [a.threat_model(suite.threat_model) for a in attacks if a.eps is not None]
    if any(one not in balls for one in own):
        ball += "; attacks with an eps of their own say it below"
    threat = f"Threat model: {ball}. " if attacked else ""
    what = (
        f"{'Robust accuracy' if attacked else 'Accuracy'} in percent, with its 95 % interval in "
        f"brackets. {count} Data: {data_text(suite.data)}. {threat}Seed {suite.seed}."
    )
    description = " ".join(suite.description.split())
    return tuple(text for text in (description, what, provenance(view.infos())) if text)


def setting(view: RunView) -> str:
    """Returns what a caption says of images and threat model, without their number."""
    data = view.suite.data
    balls = []
    for threat in view.suite.threat_models:
        unit = " (normalized)" if threat.eps_space == "normalized" else ""
        norm = threat.norm[1:].replace("inf", "∞")
        balls.append(f"{SCRIPT_L}{norm}, ε={threat.eps_text}{unit}")
    return f"Data: {data.name} ({data.split}), {' or '.join(balls)}"


def protocol_text(spec: CellSpec) -> str:
    """Describes how a cell was attacked, such as ``white_box, eot 20`` or ``transfer from x``."""
    text = spec.protocol + (f" from {_surrogate(spec)}" if spec.surrogate is not None else "")
    parts = [text, f"eot {spec.eot_iter}" * (spec.eot_iter > 1)]
    parts.append(spec.eot * (spec.eot != "plain"))
    parts.append("single" * (spec.adversary == "single"))
    parts += spec.adaptive.words() if spec.adaptive is not None else []
    parts += [f"targeted: {target_text(spec.y_target)}"] if spec.y_target is not None else []
    return ", ".join(filter(None, parts))


def model_section(view: RunView) -> Section:
    """Returns the section that says how each model was evaluated."""
    items = []
    for i, model in enumerate(view.models):
        info = view.info_of_model(i)
        facts = [f"checkpoint {model.checkpoint}"]
        known = view.facts(i)
        file_sha256 = known.file_sha256 if known is not None else ""
        if info is None:
            facts.append(model.protocol)
        else:
            facts += _facts(info, view.eot_iters(i), file_sha256)
        facts += [EOT_TEXT[eot] for eot in view.eots(i) if eot in EOT_TEXT]
        facts += [aids_text(aids) for aids in view.adaptives(i)]
        items.append((model.label, "; ".join(facts)))
    return Section("Models", tuple(items))


def attack_section(view: RunView) -> Section:
    """Returns the section that lists each attack with its parameters."""
    items = []
    for j, attack in enumerate(view.attacks):
        info = view.info_of_attack(j)
        version = "" if info is None else f" (version {info.spec.attack_version})"
        params = attack.params if info is None else info.spec.attack_params
        pairs = params_text(params)
        if attack.norm is not None:
            pairs.insert(0, attack.threat_model(view.suite.threat_model).describe())
        elif attack.eps is not None:
            pairs.insert(0, f"eps {attack.threat_model(view.suite.threat_model).eps_text}")
        if attack.eot_iter is not None:
            pairs.append(f"eot_iter {attack.eot_iter} on stochastic models")
        if attack.eot is not None:
            pairs.append(f"eot {attack.eot} on stochastic models")
        if attack.y_target is not None:
            pairs.append(f"targeted: {target_text(attack.y_target)}")
        if low := sorted(view.precisions(j) - {"float32"}):
            pairs.append(f"searched in {' or '.join(low)}, judged in float32")
        shown = ", ".join(pairs)
        items.append((attack.label, f"{attack.attack}{version}" + (f": {shown}" if shown else "")))
    return Section("Attacks", tuple(items))


def aids_text(adaptive: Adaptive) -> str:
    """Says what adaptive attacks bring, with the first digits of its hashes."""
    found = [one for one in (adaptive.gradient_model, adaptive.loss) if one is not None]
    hashes = ", ".join(f"{one.name} sha256 {one.sha256[:12]}" for one in found)
    return f"{adaptive.note()} ({hashes})"


def _facts(info: CellInfo, eot_iters: Sequence[int], file_sha256: str) -> list[str]:
    spec = info.spec
    facts = [_protocol_fact(spec)]
    if spec.stats is not None:
        facts.append(STATS_TEXT.get(spec.stats, spec.stats))
    facts += _batch_facts(info)
    facts += _draw_facts(spec, eot_iters)
    if info.cluster == "batch":
        facts.append("intervals clustered by batch")
    return [*facts, *hashes(spec.sha256, file_sha256)]


def hashes(weights_sha256: str, file_sha256: str = "") -> list[str]:
    """Returns the hashes that tell a model: of its file, if there is one, and of all of it."""
    found = {"file_sha256": file_sha256, "weights_sha256": weights_sha256}
    return [f"{name} {value[:12]}" for name, value in found.items() if value]


def _protocol_fact(spec: CellSpec) -> str:
    if spec.surrogate is None:
        return spec.protocol
    if spec.protocol == "stats_transfer":
        stats = spec.surrogate.stats or ""
        return f"{spec.protocol}: crafted under {STATS_TEXT.get(stats, stats)}"
    return f"{spec.protocol}: crafted on {_surrogate(spec)}, {hashes(spec.surrogate.sha256)[0]}"


def _surrogate(spec: CellSpec) -> str:
    """Names a surrogate by checkpoint, statistics, or both, depending on the protocol."""
    surrogate = spec.surrogate
    if surrogate is None:
        return ""
    if spec.protocol == "stats_transfer":
        return surrogate.stats or ""
    return surrogate.checkpoint + (f" ({surrogate.stats})" if surrogate.stats else "")


def _batch_facts(info: CellInfo) -> list[str]:
    spec = info.spec
    shares = any(uses_batch(model.stats) for model in (spec, spec.surrogate or spec))
    facts = []
    if info.cluster == "batch" or shares:
        facts.append(f"attacked and scored in fixed batches of {spec.batch_size}")
    if spec.adversary == "single":
        facts.append("single adversary: one image perturbed in an otherwise clean batch")
    elif shares:
        facts.append("joint adversary: the whole batch perturbed")
    return facts


def _draw_facts(spec: CellSpec, eot_iters: Sequence[int]) -> list[str]:
    facts = []
    if spec.n_draws > 1:
        facts.append(
            f"stochastic: mean score over {spec.n_draws} fresh draws (a worst case over attacks "
            "is chosen on as many others)"
        )
    averages = bool(eot_iters) or spec.eot != "mean_field"
    white_box = spec.n_draws > 1 and spec.protocol == "white_box"
    if max(eot_iters, default=1) > 1 or (white_box and averages):
        counts = " or ".join(map(str, eot_iters or (spec.eot_iter,)))
        facts.append(f"gradients averaged over {counts} draw(s) (eot_iter)")
    return facts


def data_text(data: DataSpec) -> str:
    """Describes the images of a slice."""
    parts = [f"{data.name}, {data.split} split"]
    if data.index is not None:
        return ", ".join([*parts, f"{len(data.index)} images chosen by position"])
    parts.append("all images" if data.limit is None else f"{data.limit} images")
    if data.offset:
        parts.append(f"from image {data.offset} on")
    if data.stratified:
        parts.append("stratified by class")
    parts.append("in the split's order" if data.seed is None else f"shuffled with seed {data.seed}")
    return ", ".join(parts)


def provenance(infos: Sequence[CellInfo | AnalysisInfo]) -> str:
    """Describes when, on which machines and with which versions something was run."""
    if not infos:
        return ""
    days = sorted({info.date[:10] for info in infos})
    machines = sorted({info.machine for info in infos})
    versions: dict[str, set[str]] = {}
    for info in infos:
        for name, version in info.versions.items():
            versions.setdefault(name, set()).add(version)
    shown = ", ".join(f"{name} {' / '.join(sorted(versions[name]))}" for name in sorted(versions))
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"Run {when} on {'; '.join(machines)}. Versions: {shown}."


def provenances(view: RunView) -> tuple[str, ...]:
    """Returns the provenance of a run's cells, and that of each kind of analysis."""
    texts = [provenance(view.infos())]
    for name in dict.fromkeys(entry.analysis for entry in view.suite.analyses):
        texts.append(provenance([o.info for o in view.analyses(name) if o.info is not None]))
    return tuple(dict.fromkeys(filter(None, texts)))
