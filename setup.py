"""Puts the suites and the checkpoints into the wheel; all else is in setup.cfg."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("suites", "checkpoints")


class WithFolders(build_py):
    """Builds the package with the checkout's folders as ``bench/builtin``."""

    def run(self) -> None:
        """Copies them too, but for an editable install, which finds them in the checkout."""
        super().run()
        if self.editable_mode:
            return
        for name in FOLDERS:
            copytree(
                name,
                Path(self.build_lib, "bench", "builtin", name),
                ignore=ignore_patterns("train_state.pt", "*.part"),
                dirs_exist_ok=True,
            )


setup(cmdclass={"build_py": WithFolders})
