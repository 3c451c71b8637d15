"""The files that the shape tests look at: the source, folder by folder, and the tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("state", "checkpoints", "nodes", "graphs", "genie", "src/bursar")
STARTER = "src/bursar/cli/starter"  # what `bursar init` writes: the beginning of a user's project, no part of ours


def _python_files(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            links = any(parent.is_symlink() for parent in [file, *file.parents])
            if not links and not file.is_relative_to(ROOT / STARTER):
                yield str(file.relative_to(ROOT)), file.read_text()


SOURCES = dict(_python_files(*FOLDERS))
TESTS = dict(_python_files("tests"))


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def classes(source: str) -> Iterator[ast.ClassDef]:
    """Every class of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            yield node


def module_of(file: str) -> str:
    """The name under which a source file is imported."""
    return ".".join(["bursar", *Path(file.removeprefix("src/bursar/")).with_suffix("").parts])


def imported_modules(source: str) -> Iterator[str]:
    """Every module of ours that a file imports, inside functions and for type checkers too.

    `from bursar.a import b` gives both `bursar.a` and `bursar.a.b`: only one of them may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("bursar."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "bursar":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
