"""``from bench import evaluate``: other people's models, in a few lines."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import evaluate
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.evaluation.in_memory import state_hash
from bench.models import Classifier
from bench.norms import replace_norms

N = 12


class Brightness(nn.Module):
    """Class 1 where the mean of an image is above 0.5; its margin is known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(20.0))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        z = (self.drop(x).mean((1, 2, 3)) - 0.5) * self.slope
        return torch.stack([-z, z], 1)


class CentredOnBatch(Brightness):
    """Compares an image with the mean of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean() + 0.5)


class NoisyBrightness(Brightness):
    """Adds noise, drawn anew for each pass and image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.randn(len(x), 2)


def images() -> tuple[Tensor, Tensor]:
    """Images whose mean lies 0.02, 0.04, ... from 0.5, on both sides in turn."""
    distance = 0.02 * torch.arange(1, N + 1)
    y = torch.arange(N) % 2
    level = 0.5 + distance * (2 * y - 1)
    return level.view(-1, 1, 1, 1).expand(N, 3, 8, 8).clone(), y


def test_five_lines_give_the_accuracies_of_the_closed_form() -> None:
    x, y = images()
    result = evaluate(
        Brightness(), x, y, threat="linf:0.11", attacks=["fgsm", ("pgd", {"n_iter": 10})]
    )
    assert result.robust_accuracy("pgd").value == pytest.approx(7 / 12)  # 0.12 and beyond
    assert result.worst_case().value == result.table().loc["worst case", "accuracy"]
    assert result.clean_accuracy().value == 1
    assert list(result.table().index) == ["clean", "fgsm", "pgd", "worst case"]
    assert result["pgd"].info.spec.attack_params["n_iter"] == 10
    assert [row.robust for row in result["pgd"].rows] == [0.0] * 5 + [1.0] * 7


def test_the_result_is_what_a_suite_stores() -> None:
    x, y = images()
    model = Brightness()
    info = evaluate(model, x, y, "linf:0.1", ["fgsm"])["fgsm"].info
    assert info.complete and info.cell_id == info.spec.cell_id and info.cluster == "sample"
    spec = info.spec
    assert (spec.checkpoint, spec.protocol, spec.n_draws) == ("in-memory", "white_box", 1)
    assert spec.sha256 == state_hash(model) and len(spec.sha256) == 64
    again = evaluate(model, x.numpy(), y.tolist(), "linf:0.1", ["fgsm"])["fgsm"].info
    assert again.cell_id == info.cell_id
    with torch.no_grad():
        model.slope.add_(1)
    assert evaluate(model, x, y, "linf:0.1", ["fgsm"])["fgsm"].info.cell_id != info.cell_id


def test_scores_are_float32_also_where_torch_would_round_to_tf32() -> None:
    seen = []

    class Recorder(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
            seen.append(cudnn.allow_tf32 or matmul.allow_tf32)
            return torch.stack([x.flatten(1).mean(1), 1 - x.flatten(1).mean(1)], 1)

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        evaluate(Recorder(), torch.rand(4, 1, 4, 4), [0, 1, 0, 1], attacks=["fgsm"])
        assert torch.backends.cudnn.allow_tf32, "as it was"
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert seen and not any(seen)


def test_8_bit_images_are_the_same_as_their_255ths() -> None:
    y = torch.arange(4) % 2
    x8 = (100 + 55 * y).to(torch.uint8).view(-1, 1, 1, 1).expand(4, 1, 8, 8)
    specs = [
        evaluate(Brightness(), x, y, "l2:0.5", ["natural"])["natural"].info.spec
        for x in (x8, x8.double() / 255)
    ]
    assert specs[0].data_hash == specs[1].data_hash


def test_the_model_comes_back_as_it_was() -> None:
    """Dropout in train mode would make it stochastic; a layer frozen in eval mode stays so."""
    x, y = images()
    model = nn.Sequential(Brightness(), nn.BatchNorm1d(2)).train()
    model[1].eval()
    model[0].slope.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    result = evaluate(model, x, y, "linf:0.1", ["fgsm"])
    assert torch.equal(torch.rand(3), expected)  # the caller's random state is its own
    assert result["fgsm"].info.spec.n_draws == 1
    modes = [m.training for m in model.modules()]
    assert modes == [True, True, True, False]
    assert [p.requires_grad for p in model.parameters()] == [False, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.process
def test_what_a_model_is_is_found_out() -> None:
    x, y = images()
    noisy = evaluate(NoisyBrightness(), x, y, "linf:0.1", ["fgsm"], eot_iter=4, n_draws=10)["fgsm"]
    assert (noisy.info.spec.n_draws, noisy.info.spec.eot_iter) == (10, 4)
    assert {row.forwards for row in noisy.rows} == {4.0}
    assert any(0 < row.robust < 1 for row in noisy.rows if row.robust is not None)
    batch = evaluate(CentredOnBatch(), x, y, "linf:0.1", ["fgsm"], batch_size=4)["fgsm"]
    assert batch.info.cluster == "batch" and batch.info.spec.n_draws == 1
    rna = small_classifier({"name": "rna", "pool": ["bn", "in"]}).train()
    spec = evaluate(rna, x[:4], y[:4], "linf:0.1", ["natural"], n_draws=2)["natural"].info.spec
    assert spec.n_draws == 2 and rna.training


def small_classifier(norm: Any) -> Classifier:
    fields = {"arch": "resnet20", "channels": 3, "size": 8, "classes": 2}
    spec = ModelSpec.model_validate({**fields, "norm": norm, "mean": [0.5] * 3, "std": [0.25] * 3})
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    net = nn.Sequential(*layers)
    replace_norms(net, spec.norm)
    return Classifier(spec, net)


def test_without_a_probe_what_is_declared_is_believed() -> None:
    x, y = images()
    declared = {"stochastic": False, "batch_dependent": True, "probe": False}
    info = evaluate(Brightness(), x, y, "linf:0.1", ["fgsm"], batch_size=5, **declared)["fgsm"].info
    assert info.cluster == "batch" and info.spec.batch_size == 5


def test_a_wrong_declaration_stops_with_both() -> None:
    x, y = images()
    with pytest.raises(UserError, match=r"declared stochastic.*found it deterministic"):
        evaluate(Brightness(), x, y, "linf:0.1", ["fgsm"], stochastic=True)
    with pytest.raises(UserError, match=r"declared deterministic and per-sample.*batch-dependent"):
        evaluate(CentredOnBatch(), x, y, "linf:0.1", ["fgsm"], batch_dependent=False)
    with pytest.raises(UserError, match="needs both"):
        evaluate(Brightness(), x, y, "linf:0.1", ["fgsm"], probe=False)


@pytest.mark.process
def test_what_the_probe_finds_is_an_alarm_of_every_number() -> None:
    class Probabilities(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(1)

    x, y = images()
    result = evaluate(Probabilities(), x, y, "linf:0.1", ["natural", "fgsm"])
    for cell in result.cells.values():
        assert any(alarm.startswith("probe_probabilities: ") for alarm in cell.info.alarms)
    assert "probe_probabilities" in repr(result)
    assert not evaluate(Brightness(), x, y, "linf:0.1", ["fgsm"])["fgsm"].info.alarms


def test_rows_that_speak_against_each_other_raise_alarms() -> None:
    x, y = images()
    tiny = ("cw", {"c": 1e-9, "n_iter": 1, "binary_search_steps": 1})
    alarms = evaluate(Brightness(), x, y, "linf:0.01", [tiny])["cw"].info.alarms
    assert [alarm.partition(":")[0] for alarm in alarms] == ["images_unchanged"]


def test_protocol_and_adversary_reach_the_cells_or_are_refused() -> None:
    x, y = images()
    rna = small_classifier({"name": "rna", "pool": ["bn", "in"]})
    options = {"protocol": "fixed_path", "n_draws": 2, "eot_iter": 5}
    spec = evaluate(rna, x[:4], y[:4], "linf:0.1", ["fgsm"], **options)["fgsm"].info.spec
    assert (spec.protocol, spec.eot_iter) == ("fixed_path", 1)
    alone = evaluate(CentredOnBatch(), x, y, "linf:0.1", ["fgsm"], batch_size=4, adversary="single")
    assert alone["fgsm"].info.spec.adversary == "single"
    for wrong, message in (
        (
            {"protocol": "fixed_path"},
            "protocol: fixed_path is .* draws none; use white_box",
        ),
        ({"protocol": "transfer"}, "expected 'white_box' or 'fixed_path', found 'transfer'"),
        ({"adversary": "single"}, "adversary: single is for .*takes each image alone"),
        ({"adversary": "both"}, "expected 'joint' or 'single', found 'both'"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(Brightness(), x, y, "linf:0.1", ["fgsm"], **wrong)


def test_eps_in_normalized_units_needs_a_model_that_knows_its_std() -> None:
    x, y = images()
    threat = {"norm": "linf", "eps": 0.2, "eps_space": "normalized"}
    result = evaluate(small_classifier("in"), x[:4], y[:4], threat, ["fgsm"])
    assert max(row.linf for row in result["fgsm"].rows) == pytest.approx(0.05, abs=1e-6)
    with pytest.raises(UserError, match="give it in pixels"):
        evaluate(Brightness(), x, y, threat, ["fgsm"])


def test_an_attack_that_fails_is_shown_and_never_a_number() -> None:
    x, y = images()

    class FailsOnGradients(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad and x.shape[0] == N:
                raise RuntimeError("out of memory | here")
            return super().forward(x)

    known = {"stochastic": False, "batch_dependent": False, "probe": False}
    result = evaluate(FailsOnGradients(), x, y, "linf:0.1", ["natural", "fgsm"], **known)
    with pytest.raises(UserError, match="out of memory"):
        result.robust_accuracy("fgsm")
    with pytest.raises(UserError, match="no attack is complete"):
        result.worst_case()
    assert np.isnan(result.table().loc["fgsm", "accuracy"])
    assert result.clean_accuracy().value == 1
    for text in (repr(result), result._repr_markdown_()):
        assert "incomplete" in text and "out of memory" in text
    with pytest.raises(UserError, match="did you mean 'fgsm'"):
        result.robust_accuracy("fgms")


def test_notebooks_show_percent_interval_and_n() -> None:
    x, y = images()
    entry = {"attack": "fgsm", "label": "one | step"}
    result = evaluate(Brightness(), x, y, "linf:0.11", [entry])
    assert "| one \\| step |" in result._repr_markdown_()
    (line,) = [line for line in repr(result).splitlines() if line.startswith("one | step")]
    assert line.split()[3:] == ["58.3", "[32.0,", "80.7]", "12"]
    assert "linf 0.11" in repr(result)


def test_minimum_norm_attacks_are_marked_and_told_from_bounded_ones() -> None:
    """Of the images that stand, the boundary lies farther than eps, where DeepFool has gone."""
    x, y = images()
    result = evaluate(Brightness(), x, y, "linf:0.11", ["fgsm", "deepfool"])
    assert list(result.table()["kind"]) == ["none", "bounded", "minimum-norm", ""]
    assert result.robust_accuracy("deepfool").value == pytest.approx(7 / 12)
    for text in (repr(result), result._repr_markdown_()):
        assert "deepfool †" in text and "fgsm †" not in text
        assert "† deepfool: minimum-norm attack" in text
        assert "7 of 7 standing images lie beyond eps" in text


def test_a_shortened_attack_says_its_parameters() -> None:
    x, y = images()
    short = ("autoattack", {"n_iter": 2, "n_queries": 5})
    result = evaluate(Brightness(), x, y, "linf:0.11", [short])
    assert "autoattack: n_iter 2, n_queries 5" in repr(result)
    assert "fgsm:" not in repr(evaluate(Brightness(), x, y, "linf:0.11", ["fgsm"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.randn(N, 3, 8, 8)}, r"x: expected pixels in \[0, 1\], found values from"),
        ({"x": torch.full((N, 3, 8, 8), torch.nan)}, "found values from nan"),
        ({"x": torch.zeros(N, 192)}, "x: expected images"),
        ({"x": torch.zeros(N, 3, 8, 8, dtype=torch.int64)}, "x: expected uint8"),
        ({"y": torch.zeros(N - 1, dtype=torch.int64)}, "y: expected 12 whole numbers"),
        ({"y": torch.zeros(N)}, "y: expected 12 whole numbers"),
        ({"y": torch.full((N,), 2)}, "y: expected labels from 0 to 1"),
        ({"threat": "0.1"}, "threat: expected for example linf:8/255"),
        ({"threat": "linf:8"}, "write 8/255"),
        ({"threat": "l7:8"}, "threat: norm: .*found 'l7'"),
        ({"attacks": "pgd"}, "attacks: expected a list"),
        ({"attacks": ["pdg"]}, "did you mean 'pgd'"),
        ({"attacks": [("pgd", {"n_iters": 3})]}, "did you mean 'n_iter'"),
        ({"attacks": ["fgsm", "fgsm"]}, r"attacks\[1\]: 'fgsm' is the label of attacks\[0\]"),
        ({"attacks": [{"attack": "fgsm", "parms": {}}]}, r"attacks\[0\]: parms"),
        ({"batch_size": 0}, "batch_size: .*found 0"),
        ({"device": "tpu"}, "found 'tpu'"),
        ({"model": nn.Conv2d(3, 2, 1)}, "expected logits of shape"),
        ({"model": nn.Conv2d(1, 2, 1)}, "the model fails on images of shape"),
    ],
)
def test_misuse_says_what_to_do(changes: dict[str, Any], message: str) -> None:
    x, y = images()
    arguments: dict[str, Any] = {"model": Brightness(), "x": x, "y": y, "threat": "linf:0.1"}
    with pytest.raises(UserError, match=message):
        evaluate(**{**arguments, "attacks": ["fgsm"], **changes})


def test_an_attack_that_drops_images_is_refused_on_a_batch_dependent_model() -> None:
    x, y = images()
    with pytest.raises(UserError, match=r"attacks\[0\].attack: drops samples from the batch"):
        evaluate(CentredOnBatch(), x, y, "linf:0.1", ["torchattacks:DeepFool"])


@pytest.mark.process
def test_importing_the_package_does_not_import_torch() -> None:
    code = "import bench, sys; bench.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
