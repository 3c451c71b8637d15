"""`make install`: the wheel in an empty environment, with the newest and the oldest dependencies that it allows.

In each it runs what a new user would, in an empty folder, without a key: the README's first sample, `bursar init`, the
app that it wrote, and that app's test. It needs the package index, so it is no test of `make test`.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
UV = ROOT / ".uv" / "bin" / "uv"
BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
RESOLUTIONS = ("highest", "lowest-direct")
MAX_SECONDS = 60  # from the install, with packages at hand, to a governed answer; reported, not enforced


def main() -> int:
    """0 if everything ran in every environment."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON"))}
    readme = (ROOT / "README.md").read_text()
    sample = readme.partition("```python\n")[2].partition("```")[0]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _run(ROOT, settings, sys.executable, "-c", BUILD, folder)
        (wheel,) = place.glob("*.whl")
        for resolution in RESOLUTIONS:
            empty = place / resolution
            empty.mkdir()
            python, began = place / f"env-{resolution}" / "bin" / "python", time.monotonic()

            def do(*command: object, at: Path = empty) -> str:
                return _run(at, settings, *command)

            do(UV, "venv", "--quiet", "--python", sys.executable, python.parent.parent)
            pins = do(UV, "pip", "compile", "--quiet", "--resolution", resolution, ROOT / "pyproject.toml")
            (place / "pins").write_text(pins)
            do(UV, "pip", "install", "--quiet", "--python", python, "--constraints", place / "pins", wheel)
            _try(do, python, sample)
            print(f"{resolution}: {_versions(do, python)}")
            print(
                f"  from the install to a governed answer in {time.monotonic() - began:.0f} s (at most {MAX_SECONDS})"
            )
            do(UV, "pip", "install", "--quiet", "--python", python, "pytest")
            print(f"  its test: {do(python, '-m', 'pytest', '-q').splitlines()[-1]}")
    return 0


def _try(do: Callable[..., str], python: Path, sample: str) -> None:
    bursar = python.parent / "bursar"
    assert "Most of it went to rent." in do(python, "-c", sample)
    do(bursar, "init")
    assert "answered for $0.00" in do(python, "app.py", "Where did my money go?")
    do(bursar, "verify", "--database", "sqlite:///app.db")


def _versions(do: Callable[..., str], python: Path) -> str:
    names = ("langgraph", "langchain-core", "langchain-openai", "sqlalchemy", "pydantic")
    code = f"from importlib.metadata import version\nfor name in {names!r}: print(name, version(name), end='  ')"
    return do(python, "-c", code).strip()


def _run(folder: Path, settings: dict[str, str], *command: object) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=settings, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))[:200]}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
