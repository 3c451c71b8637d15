"""Nothing is too big to be read at once: files, functions and folders; and no name stands for two classes.

Each list of exceptions names what is over the limit today. It may only shrink: a test fails too when an entry is no
longer needed.
"""

from collections import Counter

from tests.shape.sources import SOURCES, TESTS, classes, functions

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_POSITIONAL = 5
MAX_MODULES = 12

LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()  # "file:function"
CROWDED_FOLDERS = {  # modules in each, `__init__` not counted
    "state": 18,  # one small file for each kind of value, and for what is done with texts, secrets and causes
    "checkpoints/database": 13,  # drivers will take over five of them
    "checkpoints/ledger": 22,  # one file for each kind of entry
    "checkpoints/saver": 18,  # deletion will be one file of three, deltas one of two
    "nodes/gateway": 13,  # one door, with everything that a call passes
}
CROWDED_TEST_FOLDERS = {  # modules in each, conftest not counted
    "tests/nodes/gateway": 14,  # the room that they test has more
}


def _is_long(file: str, source: str) -> set[str]:
    return {
        f"{file}:{function.name}"
        for function in functions(source)
        if (function.end_lineno or 0) - function.lineno >= MAX_FUNCTION_LINES
    }


def _crowded(files: dict[str, str]) -> dict[str, int]:
    plain = [file for file in files if not file.endswith(("/__init__.py", "/conftest.py"))]
    modules = Counter(file.rpartition("/")[0] for file in plain)
    return {folder: number for folder, number in modules.items() if number > MAX_MODULES}


def test_there_is_something_to_check() -> None:
    """The rules look at real files of every folder."""
    assert {file.split("/")[0] for file in SOURCES} == {"state", "checkpoints", "nodes", "graphs", "genie", "src"}


def test_a_file_has_at_most_400_lines() -> None:
    """A file has one idea; a file of tests too."""
    files = {**SOURCES, **TESTS}
    assert {file for file, source in files.items() if source.count("\n") > MAX_FILE_LINES} == LONG_FILES


def test_a_function_has_at_most_60_lines() -> None:
    """A function can be read at a glance; a test too."""
    files = {**SOURCES, **TESTS}
    assert {name for file, source in files.items() for name in _is_long(file, source)} == LONG_FUNCTIONS


def test_a_function_takes_at_most_five_positional_parameters() -> None:
    """Beyond five, parameters are named."""
    wide = [
        f"{file}:{function.name}"
        for file, source in SOURCES.items()
        for function in functions(source)
        if len([a for a in function.args.posonlyargs + function.args.args if a.arg not in {"self", "cls"}])
        > MAX_POSITIONAL
    ]
    assert wide == []


def test_a_folder_has_at_most_12_modules() -> None:
    """A folder can be read at a glance; one that is over the limit is listed with its count."""
    assert _crowded(SOURCES) == CROWDED_FOLDERS
    assert _crowded(TESTS) == CROWDED_TEST_FOLDERS


def test_no_class_name_stands_for_two_things() -> None:
    """A class is found by its name alone, in the whole source. Names with an underscore are their file's own."""
    files: dict[str, list[str]] = {}
    for file, source in SOURCES.items():
        for found in classes(source):
            files.setdefault(found.name, []).append(file)
    assert {name: where for name, where in files.items() if len(where) > 1} == {}
