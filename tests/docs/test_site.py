"""The site that `make docs` builds from the pages: it builds without a warning and needs no other host to be read."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import PAGES, ROOT, blocks


def test_each_diagram_has_its_picture() -> None:
    """And no picture is left of a diagram that was changed. `make diagrams` puts that right."""
    diagrams = {name for page in PAGES for _, text in blocks(page.read_text(), "mermaid") for name in [_picture(text)]}
    assert diagrams == {picture.name for picture in (ROOT / "docs/diagrams").glob("*.svg")}


def _picture(diagram: str) -> str:
    return f"{hashlib.sha256(diagram.encode()).hexdigest()[:16]}.svg"


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """`--strict` turns a warning into a fault. No script, style, picture or font comes from another host."""
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for page in PAGES:
        html = (tmp_path / f"{page.stem}.html").read_text()
        assert "stateDiagram" not in html
        assert re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]*", html) == []
    for style in tmp_path.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//", style.read_text()) == []
