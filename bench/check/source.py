"""Where a baseline is: a run folder, a file, or a file in a revision of git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.check.baseline_file import LARGEST, from_text
from bench.check.record import Recording, is_run_folder, read_run
from bench.core.errors import UserError
from bench.core.places import folder_at

FOLDER = Path("suites") / "baselines"
"""Where the baselines of a project lie by default."""

SUFFIX = ".jsonl"


def default_file(suite: str) -> Path:
    """Returns where the baseline of a suite lies if nothing else is said."""
    return FOLDER / f"{suite}{SUFFIX}"


def open_baseline(where: str) -> Recording:
    """Reads a baseline.

    Args:
        where: A run folder or its URL, a baseline's file, or ``REVISION:FILE`` of the git
            repository that this is run in, such as ``main:suites/baselines/smoke.jsonl``.

    Raises:
        UserError: When there is none, or it is damaged.
    """
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
    """Returns a file of a revision; its path is taken from here first, then from the top."""
    said = ""
    for path in (f"./{inside}", inside):
        command = ["git", "cat-file", "blob", f"{revision}:{path}"]
        if revision.startswith("-"):
            break  # an option, which no revision is
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
