"""Pictures of the pages' Mermaid diagrams, so that the site shows them without a script from another host.

MkDocs calls `on_page_markdown` for each page. `make diagrams` draws the pictures anew; it needs Node.js, Chromium and
the package index, so the pictures are kept in the repository, each under the digest of its diagram's text.
"""

import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```", re.DOTALL | re.MULTILINE)
DRAWER = "@mermaid-js/mermaid-cli@11"

_log = logging.getLogger("mkdocs.plugins.diagrams")


def on_page_markdown(markdown: str, **page: object) -> str:
    """Return the page with each diagram's picture in the place of its text. A missing picture is a warning."""

    def picture(found: "re.Match[str]") -> str:
        name = name_of(found[1])
        if not (HERE / name).exists():
            _log.warning("%s: a diagram has no picture; draw it: make diagrams", page.get("page"))
        return f"[![The diagram that the words around it describe](diagrams/{name})](diagrams/{name})"  # opens alone

    return DIAGRAM.sub(picture, markdown)


def name_of(diagram: str) -> str:
    """Return the file name of the diagram's picture."""
    return f"{hashlib.sha256(diagram.encode()).hexdigest()[:16]}.svg"


def drawn_in_pages() -> dict[str, str]:
    """Return the diagrams of all pages, by the file names of their pictures."""
    pages = (page.read_text(encoding="utf-8") for page in HERE.parent.glob("*.md"))
    return {name_of(text): text for page in pages for text in DIAGRAM.findall(page)}


def main() -> None:
    """Draw the pictures that are missing, and remove those of diagrams that are gone."""
    wanted = drawn_in_pages()
    for left in {picture.name for picture in HERE.glob("*.svg")} - wanted.keys():
        (HERE / left).unlink()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or shutil.which("npx") is None:
        sys.exit("drawing needs chromium and npx (Node.js) on the path")
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "chromium.json")
        settings.write_text(json.dumps({"executablePath": chromium, "args": ["--no-sandbox"]}))
        for name in sorted(name for name in wanted if not (HERE / name).exists()):
            text = Path(folder, "diagram.mmd")
            text.write_text(wanted[name], encoding="utf-8")
            draw = ["npx", "--yes", DRAWER, "--quiet", "-p", settings, "-i", text, "-o", HERE / name]
            subprocess.run(draw, check=True)
            print(f"drew {name}")


if __name__ == "__main__":
    main()
