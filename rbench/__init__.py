"""rbench under the name that it is installed by: everything here is that of the package ``bench``.

``import rbench`` and ``import bench`` give the same functions and classes. Modules inside are one
and the same too: ``rbench.core.errors`` is ``bench.core.errors``.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

import bench
from bench import __version__

if TYPE_CHECKING:
    from bench import (
        Comparison,
        EvaluationResult,
        Evaluations,
        UserError,
        compare,
        evaluate,
        load_data,
        load_model,
        load_result,
        replace_norms,
        run_suite,
        verify_examples,
    )

__all__ = [
    "Comparison",
    "EvaluationResult",
    "Evaluations",
    "UserError",
    "__version__",
    "compare",
    "evaluate",
    "load_data",
    "load_model",
    "load_result",
    "replace_norms",
    "run_suite",
    "verify_examples",
]


def __getattr__(name: str) -> object:
    """Returns what ``bench`` has under a name, which imports torch where that is needed."""
    return getattr(bench, name)


def __dir__() -> list[str]:
    """Returns the names that are meant to be used."""
    return dir(bench)


class _SameModules(MetaPathFinder, Loader):
    """Makes ``rbench.A.B`` the module ``bench.A.B``, in place of a second copy of its classes."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns how a module of this package is found; ``None`` for any other."""
        return ModuleSpec(name, self) if name.startswith(f"{__name__}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Imports the module under its own name."""
        module = import_module(f"bench{spec.name.removeprefix(__name__)}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module, which has been imported, its own specification back."""
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            module.__spec__ = spec.loader_state


sys.meta_path.insert(0, _SameModules())  # before the one that would find bench's files again
