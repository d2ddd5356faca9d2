"""Takes the picture of a page for the README: ``python tests/report/report_picture.py``."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from report_browser import Browser

ROOT = Path(__file__).parents[2]
RUN, PICTURE = ROOT / "reports" / "batch_statistics", ROOT / "docs" / "images" / "report.png"
KEY = "leaderboard.csv sha256"
WIDTH = 1040


def numbers_hash() -> str:
    """Returns the hash of the numbers that the picture shows."""
    return hashlib.sha256((RUN / "leaderboard.csv").read_bytes()).hexdigest()


def main() -> None:
    """Writes the picture, from the top of the page to the end of its leaderboard."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program is not None, "needs Chromium"
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(program, Path(folder) / "profile")
        browser.open(RUN / "report.html", WIDTH)
        end = "document.querySelector('#leaderboard .notes').getBoundingClientRect().bottom"
        height = round(browser.run(end)) + 16
        browser.open(RUN / "report.html", WIDTH, height)
        browser.screenshot(Path(folder) / "page.png", whole=False)
        browser.close()
        taken = BytesIO((Path(folder) / "page.png").read_bytes())
    note = PngInfo()
    note.add_text(KEY, numbers_hash())
    picture = Image.open(taken).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    picture.save(PICTURE, optimize=True, pnginfo=note)


if __name__ == "__main__":
    main()
