"""Opens a baseline: a run folder, a file, or a file in a git revision."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from bench.check.baseline_file import LARGEST, from_text
from bench.check.record import Recording, is_run_folder, read_run
from bench.core.errors import UserError
from bench.core.paths import folder_at

FOLDER = Path("suites") / "baselines"
"""Default folder of a project's baselines."""

SUFFIX = ".jsonl"

_SUITE = re.compile(r"[a-z0-9_-]+")
"""Valid names of suites."""


def default_file(suite: str) -> Path:
    """Returns the default file of a suite's baseline.

    Raises:
        UserError: When the name is not a valid name of a suite, and so might be any path.
    """
    if _SUITE.fullmatch(suite) is None:
        raise UserError(
            f"expected a run of a suite that is named in a-z, 0-9, _ and -, found '{suite[:80]}'; "
            "say which file is its baseline"
        )
    return FOLDER / f"{suite}{SUFFIX}"


def open_baseline(where: str) -> Recording:
    """Reads a baseline.

    Args:
        where: A run folder or its URL, a baseline file, or ``REVISION:FILE`` in the git repository
            of the working directory, such as ``main:suites/baselines/smoke.jsonl``.

    Raises:
        UserError: When there is none, it is damaged, or it has no complete cell.
    """
    try:
        found = _opened(where)
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror or error})") from None
    if not found.records:
        # All cells would be new, and the check would pass.
        raise UserError(
            f"{where}: has no complete cell to compare with; name another baseline, or write this "
            "one anew with `rbench baseline update`"
        )
    return found


def _opened(where: str) -> Recording:
    path = Path(where)
    if "://" in where or is_run_folder(path):
        return read_run(folder_at(where))
    if path.is_dir():
        raise UserError(
            f"{path}: neither a run folder, which has store/run.json, nor a baseline's file"
        )
    if path.is_file():
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST:,} bytes, so no baseline")
        return from_text(_decoded(path.read_bytes(), where), where)
    revision, colon, inside = where.partition(":")
    if colon and revision and inside:
        return from_text(_decoded(_from_git(revision, inside), where), where)
    raise UserError(
        f"{where}: no such baseline; expected a run folder, a file as `rbench baseline update` "
        "writes it, or REVISION:FILE of git"
    )


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{where}: not a baseline: expected UTF-8 text") from None


def _from_git(revision: str, inside: str) -> bytes:
    """Returns a file of a revision; its path is relative to here, or else to the repository."""
    said = ""
    for path in (f"./{inside}", inside):
        command = ["git", "cat-file", "blob", f"{revision}:{path}"]
        if revision.startswith("-"):
            break  # would be an option
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError as error:
            raise UserError(f"{revision}:{inside}: cannot run git ({error})") from None
        if done.returncode == 0:
            if len(done.stdout) > LARGEST:
                raise UserError(f"{revision}:{inside}: too large for a baseline")
            return done.stdout
        said = done.stderr.decode(errors="replace").strip()
    raise UserError(
        f"{revision}:{inside}: neither a file here nor one in git ({said or 'no such revision'})"
    )
