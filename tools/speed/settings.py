"""The compared attacks, with one set of parameters for all contenders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.attacks.declared_search import N_TARGETS
from bench.core.cell import Eot
from bench.core.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Setting:
    """An attack with its parameters, in rbench's terms.

    Attributes:
        name: Name for ``--attack``.
        title: Name in tables.
        attack: rbench's attack.
        norm: ``linf`` or ``l2``.
        params: Parameters of every contender; ``tools.speed.contenders`` translates their names.
        ours: Parameters that only rbench has; they are not meant to change a verdict.
        brief: Parameters for a short run: for warming up, memory and smoke tests.
        eot_iter: Draws over which gradients are averaged.
        our_eot: Draws over which rbench averages instead, and how, if it needs fewer for the same
            strength; ``rbench exact`` uses ``eot_iter``.
        stochastic: Whether it is for stochastic models; otherwise for deterministic ones.
        costly: Whether it takes minutes.
    """

    name: str
    title: str
    attack: str
    norm: str = "linf"
    params: Mapping[str, object] = field(default_factory=dict)
    ours: Mapping[str, object] = field(default_factory=dict)
    brief: Mapping[str, object] = field(default_factory=dict)
    eot_iter: int = 1
    our_eot: tuple[int, Eot] | None = None
    stochastic: bool = False
    costly: bool = False

    def shortened(self) -> Setting:
        """Returns the same attack with few steps."""
        few, ours = min(self.eot_iter, 2), self.our_eot
        return replace(
            self,
            params={**self.params, **self.brief},
            eot_iter=few,
            our_eot=ours and (min(ours[0], few), ours[1]),
        )


def settings(eps: float, classes: int) -> tuple[Setting, ...]:
    """Returns every attack that is raced.

    Args:
        eps: Radius in linf, which step sizes follow.
        classes: Number of classes; targeted attacks use at most 9 wrong ones.
    """
    step = {"alpha": eps / 4}
    few = {"n_iter": 5}
    targets = {"n_restarts": 1, "n_target_classes": min(N_TARGETS, classes - 1)}
    leave = {"early_stop": True}
    fab = {"n_iter": 100, **targets, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9}
    cw = {"n_iter": 40, "binary_search_steps": 1, "c": 1.0, "lr": 0.01, "kappa": 0.0}
    standard = {"version": "standard", "n_iter": 100, "n_queries": 5000}
    return (
        Setting("fgsm", "FGSM", "fgsm"),
        Setting(
            "pgd",
            "PGD-20",
            "pgd",
            params={"n_iter": 20, **step, "random_start": True},
            ours=leave,
            brief=few,
        ),
        Setting("mim", "MIM-10", "mim", params={"n_iter": 10, **step, "decay": 1.0}, brief=few),
        Setting(
            "apgd-ce",
            "APGD-CE-100",
            "apgd",
            params={"n_iter": 100, "n_restarts": 1, "loss": "ce"},
            ours=leave,
            brief=few,
        ),
        Setting(
            "apgd-t",
            "APGD-T-100",
            "apgd_t",
            params={"n_iter": 100, **targets},
            ours=leave,
            brief=few,
            costly=True,
        ),
        Setting("fab-t", "FAB-T-100", "fab_t", params=fab, ours=leave, brief=few, costly=True),
        Setting(
            "square",
            "Square-5000",
            "square",
            params={"n_queries": 5000, "p_init": 0.8},
            brief={"n_queries": 30},
            costly=True,
        ),
        Setting("cw-l2", "CW-L2-40", "cw", "l2", params=cw, brief=few),
        Setting(
            "deepfool",
            "DeepFool-50",
            "deepfool",
            "l2",
            params={"n_iter": 50, "overshoot": 0.02},
            brief=few,
        ),
        Setting(
            "autoattack",
            "AutoAttack standard",
            "autoattack",
            params=standard,
            brief={"n_iter": 5, "n_queries": 30},
            costly=True,
        ),
        Setting("auto", "auto (beside AutoAttack)", "auto", costly=True, brief={"n_passes": 100}),
        Setting(
            "autoattack-rand",
            "AutoAttack rand, EOT-20",
            "autoattack",
            params={"version": "rand", "n_iter": 100},
            brief=few,
            eot_iter=20,
            our_eot=(4, "stratified"),
            stochastic=True,
            costly=True,
        ),
    )


def choose(known: Sequence[Setting], wanted: Sequence[str], stochastic: bool) -> list[Setting]:
    """Returns the settings for a model, in the order of ``known``.

    Args:
        known: All settings.
        wanted: Names; none for all.
        stochastic: Whether the model draws at random.

    Raises:
        UserError: For an unknown name.
    """
    names = [setting.name for setting in known]
    for name in wanted:
        if name not in names:
            raise UserError(f"--attack {name}: no such attack{did_you_mean(name, names)}")
    return [
        setting
        for setting in known
        if setting.stochastic == stochastic and (not wanted or setting.name in wanted)
    ]
