from __future__ import annotations

import sys

import pytest

from bench.core.errors import UserError, did_you_mean
from bench.core.registry import Registry


def test_entries_are_found_counted_and_sorted() -> None:
    registry: Registry[int] = Registry("colour")
    registry.add("red", 1)
    registry.add("blue", 2)
    assert list(registry) == ["blue", "red"] and len(registry) == 2
    assert registry.get("red") == 1 and "red" in registry and "pink" not in registry


def test_a_lazy_entry_is_imported_on_first_use_only() -> None:
    sys.modules.pop("this", None)
    sys.modules.pop("colorsys", None)
    registry: Registry[object] = Registry("tool")
    registry.add_lazy("convert", "colorsys:rgb_to_hsv")
    assert "convert" in registry and list(registry) == ["convert"] and len(registry) == 1
    assert "colorsys" not in sys.modules
    assert registry.get("convert") is registry.get("convert") is sys.modules["colorsys"].rgb_to_hsv
    assert len(registry) == 1


def test_a_text_entry_is_not_taken_for_a_lazy_one() -> None:
    registry: Registry[str] = Registry("text")
    registry.add("greeting", "os:getcwd")
    assert registry.get("greeting") == "os:getcwd"


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("fmnist-resnet20-nb", "fmnist-resnet20-bn fmnist-resnet20-rn fmnist-resnet20-in", 0),
        ("fmnist-resnet20-rm", "fmnist-resnet20-bn fmnist-resnet20-rn fmnist-resnet20-gn", 1),
        ("pdg", "pgd fgsm apgd mim", 0),
        ("natrual", "natural nattack", 0),
        ("Linf", "l2 linf", 1),
        ("FMNIST-ResNet20-BN", "fmnist-resnet20-bgn fmnist-resnet20-bn", 1),
        ("n_itr", "n_iter eot_iter alpha", 0),
    ],
)
def test_of_similar_names_the_one_with_the_fewest_typing_errors_is_meant(
    typed: str, known: str, meant: int
) -> None:
    names = known.split()
    assert did_you_mean(typed, names) == f"; did you mean '{names[meant]}'?"


def test_a_name_is_taken_once() -> None:
    registry: Registry[int] = Registry("attack")
    registry.add("pgd", 1)
    registry.add_lazy("fgsm", "math:pi")
    for name in ("pgd", "fgsm"):
        with pytest.raises(ValueError, match=f"attack '{name}' is registered twice"):
            registry.add(name, 2)
        with pytest.raises(ValueError, match="registered twice"):
            registry.add_lazy(name, "math:pi")


def test_an_unknown_name_brings_the_nearest_or_all() -> None:
    registry: Registry[int] = Registry("attack")
    registry.add("autoattack", 1)
    registry.add_lazy("deepfool", "math:pi")
    with pytest.raises(UserError, match=r"^unknown attack 'autoatack'; did you mean 'autoattack'"):
        registry.get("autoatack")
    with pytest.raises(UserError, match=r"did you mean 'deepfool'"):
        registry.get("depfool")
    with pytest.raises(UserError, match=r"known: autoattack, deepfool$"):
        registry.get("zzz")
    with pytest.raises(UserError, match=r"there are none"):
        Registry("norm").get("bn")


def test_a_long_list_of_names_is_cut() -> None:
    text = did_you_mean("zzz", [f"a{i:02}" for i in range(50)])
    assert "a19, ..." in text and "a20" not in text
