"""The claims of the two papers, as rules over the stored rows of the suites that repeat them."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.papers.claims import Claim, Contrast, Side, Trial

RN_ATTACKS = ("FGSM", "BIM", "MIM", "PGD")
RNA_ATTACKS = ("PGD-20", "AutoAttack-20")
NORMS = ("bn", "bgn", "in", "gn", "ln")
SPACES = ("gn+bgn", "gn+ln", "ln+bn")


def _one(model: str, *attacks: str) -> Side:
    return Side(((model,),), attacks)


def _under_each(better: str, worse: str, attacks: Sequence[str]) -> tuple[Contrast, ...]:
    return tuple(Contrast(a, _one(better, a), _one(worse, a)) for a in attacks)


def _over_each(better: str, worse: Sequence[str], *attacks: str) -> tuple[Contrast, ...]:
    return tuple(
        Contrast(f"over {name.partition(',')[0]}", _one(better, *attacks), _one(name, *attacks))
        for name in worse
    )


def _transfer(attack: str, *, chosen: bool) -> Contrast:
    """Transfer between different norms against white boxes, mean over the target models.

    Args:
        attack: Its label.
        chosen: Whether the adversary chooses the best surrogate for each image, or one counts as
            much as another.
    """
    foreign = [
        [f"adversarial, {target}, from {source}" for source in NORMS if source != target]
        for target in NORMS
    ]
    own = tuple((f"adversarial, {norm}, from {norm}",) for norm in NORMS)
    groups = foreign if chosen else [[label] for labels in foreign for label in labels]
    better = Side(tuple(map(tuple, groups)), (attack,), declines=True)
    return Contrast("transfer over white_box", better, Side(own, (attack,)))


def _on_batch_statistics(data: str, suffix: str) -> Claim:
    """Returns the claim of RobustNorm's Table 1 for the rows of another data set."""
    run = f"robustnorm_table1_{suffix}"
    sides = (_one("bn B", *RN_ATTACKS, "CW"), _one("bn P", *RN_ATTACKS, "CW"))
    return Claim(
        text=f"Batch statistics beat population statistics on {data}",
        source="RobustNorm, Table 1",
        paper=Trial(
            run,
            "the paper's attacks, white_box and joint, on batches of 128",
            _under_each("bn B", "bn P", RN_ATTACKS),
        ),
        strongest=Trial(
            run, "worst case of FGSM, BIM, MIM, CW and PGD", (Contrast("worst case", *sides),)
        ),
    )


def _robust_norm(data: str, run: str) -> Claim:
    """Returns the claim of RobustNorm's Figure 3 for a data set."""
    sides = (_one("rn", *RN_ATTACKS, "CW"), _one("bn", *RN_ATTACKS, "CW"))
    return Claim(
        text=f"RobustNorm beats BatchNorm{data}",
        source="RobustNorm, Figure 3",
        paper=Trial(
            run,
            "the paper's attacks, rn on the statistics of batches of 128",
            _under_each("rn", "bn", RN_ATTACKS),
        ),
        strongest=Trial(
            run, "worst case of FGSM, BIM, MIM, CW and PGD", (Contrast("worst case", *sides),)
        ),
    )


CLAIMS = (
    Claim(
        text="Batch statistics beat population statistics",
        source="RobustNorm, Table 1",
        paper=Trial(
            "robustnorm_table1",
            "the paper's attacks, white_box and joint, on batches of 128",
            _under_each("bn B", "bn P", RN_ATTACKS),
        ),
        strongest=Trial(
            "batch_statistics",
            "worst case of FGSM, PGD-20 and PGD-100, crafted under either statistics",
            (
                Contrast(
                    "worst case",
                    Side(
                        (("B, joint", "crafted under P, scored under B"),),
                        ("FGSM", "PGD-20", "PGD-100"),
                    ),
                    Side(
                        (("P", "crafted under B, scored under P"),), ("FGSM", "PGD-20", "PGD-100")
                    ),
                ),
            ),
        ),
    ),
    _on_batch_statistics("CIFAR-10", "cifar10"),
    _on_batch_statistics("MNIST", "mnist"),
    Claim(
        text="Norms that track nothing are more robust than BatchNorm",
        source="RobustNorm, Table 3",
        paper=Trial(
            "robustnorm_table3",
            "PGD",
            tuple(
                Contrast(f"{norm} over bn", _one(norm, "PGD"), _one("bn", "PGD"))
                for norm in ("none", "fixup", "ln")
            ),
        ),
        strongest=Trial(
            "robustnorm_table3",
            "worst case of FGSM, BIM, MIM, CW and PGD",
            tuple(
                Contrast(
                    f"{norm} over bn", _one(norm, *RN_ATTACKS, "CW"), _one("bn", *RN_ATTACKS, "CW")
                )
                for norm in ("none", "fixup", "ln")
            ),
        ),
    ),
    _robust_norm("", "robustnorm_fig3"),
    _robust_norm(" on MNIST", "robustnorm_fig3_mnist"),
    Claim(
        text="Transferability between norms is low",
        source="RNA, Figure 1 (d)",
        paper=Trial(
            "rna_fig1",
            "PGD-7 on adversarially trained networks, mean over all pairs of norms; what is wrong "
            "when clean counts as broken on both sides",
            (_transfer("PGD-7 on adversarial", chosen=False),),
        ),
        strongest=Trial(
            "rna_fig1",
            "PGD-7 from the best of four surrogates for each image",
            (_transfer("PGD-7 on adversarial", chosen=True),),
        ),
    ),
    Claim(
        text="RNA beats every norm",
        source="RNA, Table 1",
        paper=Trial(
            "rna_table1",
            "fixed_path, worst case of PGD-20 and AutoAttack-20",
            _over_each("rna, fixed_path", NORMS, *RNA_ATTACKS),
        ),
        strongest=Trial(
            "rna_table1",
            "EOT 4, worst case of PGD-20 and AutoAttack-20",
            _over_each("rna, EOT 4", NORMS, *RNA_ATTACKS),
        ),
    ),
    Claim(
        text="IN + BN is the best random space",
        source="RNA, Table 4",
        paper=Trial(
            "rna_table4",
            "fixed_path, worst case of PGD-20 and AutoAttack-20",
            _over_each(
                "in+bn, fixed_path", [f"{space}, fixed_path" for space in SPACES], *RNA_ATTACKS
            ),
        ),
        strongest=Trial(
            "rna_table4",
            "EOT 4, worst case of PGD-20 and AutoAttack-20",
            _over_each("in+bn, EOT 4", [f"{space}, EOT 4" for space in SPACES], *RNA_ATTACKS),
        ),
    ),
)
