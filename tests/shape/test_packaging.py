"""The distribution: what is in it, that it works away from the checkout, and a checkout that lost its links."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("checkpoints", "genie", "graphs", "nodes", "state")
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "*.db*")
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, f'build_{sys.argv[1]}')(sys.argv[2]))"


@dataclass(frozen=True)
class Built:
    """A source distribution, and the wheel that was built from what is in it."""

    sdist: Path
    wheel: Path

    def files(self) -> set[str]:
        """The names in the wheel."""
        with zipfile.ZipFile(self.wheel) as wheel:
            return set(wheel.namelist())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions, built offline from a copy of the checkout, as an installer does: the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "checkout", symlinks=True, ignore=NOT_COPIED)
    sdist = _build("sdist", folder / "checkout", folder)
    with tarfile.open(sdist) as source:
        source.extractall(folder / "source", filter="data")
    (inside,) = (folder / "source").iterdir()
    return Built(sdist, _build("wheel", inside, folder))


def _build(kind: str, source: Path, into: Path) -> Path:
    command = [sys.executable, "-c", BUILD, kind, str(into)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return into / done.stdout.splitlines()[-1]


def _run(folder: Path, *arguments: str, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _house() -> Iterator[str]:
    """Every file that belongs to the package, by its name in it."""
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"bursar/{file.relative_to(ROOT).as_posix()}"


def test_the_wheel_holds_the_whole_house(built: Built) -> None:
    """Every module, migration and data file of the five folders is in the wheel, at its place in the package."""
    files = built.files()
    assert set(_house()) - files == set()
    assert {
        "bursar/__init__.py",
        "bursar/__main__.py",
        "bursar/cli/main.py",
        "bursar/py.typed",
        "bursar/checkpoints/schema/migrations/env.py",
        "bursar/nodes/routers/out_of_scope.txt",
        "bursar/genie/household/sample_household/checking.ofx",
        "bursar/genie/agents/tax_optimisation/us_2025.toml",
        "bursar/genie/agents/tax_optimisation/examples.toml",
    } <= files


def test_the_wheel_holds_nothing_else(built: Built) -> None:
    """Site-packages gets `bursar` and no `state`, `nodes` or `tests` of the same name as a user's own."""
    files = built.files()
    assert {name.split("/")[0] for name in files} == {"bursar", "bursar-0.1.0.dist-info"}
    assert [name for name in files if "__pycache__" in name or name.endswith((".db", ".pyc"))] == []


def test_the_wheel_works_away_from_the_checkout(built: Built, tmp_path: Path) -> None:
    """The unpacked wheel imports from where it lies, shows its help and answers the demo's questions."""
    site = tmp_path / "site"
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(site)
    away = tmp_path / "away"
    away.mkdir()
    where = _run(away, "-c", "import bursar, bursar.state as s; print(bursar.__file__, s.__file__)", path=site)
    assert where.split() == [str(site / "bursar" / "__init__.py"), str(site / "bursar" / "state" / "__init__.py")]
    assert "bursar = bursar.cli.main:main" in (site / "bursar-0.1.0.dist-info" / "entry_points.txt").read_text()
    assert "resume" in _run(away, "-m", "bursar", "--help", path=site)
    assert "LUXE ELECTRONICS" in _run(away, "-m", "bursar", "demo", path=site)
    assert list(away.iterdir()) == []


@pytest.mark.parametrize("left", ["nothing", "text files"])
def test_a_checkout_without_links_works(left: str, tmp_path: Path) -> None:
    """Where links were dropped, or became text files as on Windows, the five folders are found at the root."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=NOT_COPIED)
    for folder in FOLDERS:
        link = copy / "src" / "bursar" / folder
        link.unlink()
        if left == "text files":
            link.write_text(f"../../{folder}")
    code = "import bursar.genie.app, sys; print({n: sys.modules[f'bursar.{n}'].__file__ for n in sys.argv[1:]})"
    found = _run(tmp_path, "-c", code, *FOLDERS, path=copy / "src")
    assert found.strip() == str({folder: str(copy / folder / "__init__.py") for folder in FOLDERS})
    assert "supervisor" in _run(tmp_path, "-m", "bursar", "graph", path=copy / "src")


def test_the_links_of_this_checkout_are_relative() -> None:
    """The package's links lead to the five folders of the clone that they are in."""
    package = ROOT / "src" / "bursar"
    if not (package / "state").is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert {folder: (package / folder).readlink().as_posix() for folder in FOLDERS} == {
        folder: f"../../{folder}" for folder in FOLDERS
    }
