"""Bursar is under the MIT licence, so nothing that it imports may ask more of its users than that."""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

LOCK = Path(__file__).parents[2] / "requirements.lock"
PERMISSIVE = re.compile(r"\b(0BSD|Apache|BSD|CC0|CNRI|ISC|MIT|MIT-0|PSF|Python Software Foundation|Unlicense|Zlib)\b")
BINDING = re.compile(r"GPL|General Public|MPL|Mozilla|Elastic|EUPL|SSPL")
KNOWN = {
    # Weak copyleft: it binds who changes the library, not who imports it.
    "certifi": "MPL",
    "hypothesis": "MPL",  # tests only
    "orjson": "MPL",
    "pathspec": "MPL",
    "psycopg": "LGPL",
    "psycopg-binary": "LGPL",
    "psycopg-pool": "LGPL",
    "python-stdnum": "LGPL",
    # Not imported: the extra `studio` starts LangGraph's own server, which is source-available.
    "forbiddenfruit": "GPL",  # or MIT: it says both, and whoever uses it may choose
    "langgraph-api": "Elastic",
    "langgraph-runtime-inmem": "Elastic",
}


def licence_of(name: str) -> str | None:
    """The licence that an installed package states; None if it is not installed here."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return None
    stated = {key: value if isinstance(value, list) else [value] for key, value in found.json.items()}
    classes = [line.rpartition("::")[2].strip() for line in stated.get("classifier", []) if line.startswith("License")]
    first_line = "".join(stated.get("license", [])).partition("\n")[0]
    return "".join(stated.get("license_expression", [])) or "; ".join([*classes, first_line])


def is_permissive(licence: str) -> bool:
    """Whether it is one of the licences that ask for no more than a notice."""
    return PERMISSIVE.search(licence) is not None and BINDING.search(licence) is None


def locked() -> dict[str, bool]:
    """The packages that the lock names, and whether every machine has them."""
    lines = re.findall(r"^([\w.-]+)==\S+( ;.*)?", LOCK.read_text(), re.MULTILINE)
    return {name: not marker.strip(" \\") for name, marker in lines}


def test_every_locked_package_is_under_a_permissive_licence() -> None:
    """But for those that are listed with a reason; each of those is still in the lock, under that licence."""
    licences = {name: licence for name in locked() if (licence := licence_of(name)) is not None}
    others = {name: licence for name, licence in licences.items() if not is_permissive(licence)}
    assert others.keys() == KNOWN.keys(), others
    assert all(KNOWN[name] in licence for name, licence in others.items()), others


def test_every_package_that_all_machines_have_was_looked_at() -> None:
    """None of them is missing from the environment that the test reads."""
    assert [name for name, everywhere in locked().items() if everywhere and licence_of(name) is None] == []


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 AND BSD-2-Clause", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-or-later", False),
        ("GNU General Public License v3 (GPLv3); ", False),
        ("SSPL-1.0", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_that_binds_is_not_taken_for_a_permissive_one(licence: str, permissive: bool) -> None:
    """A licence that nobody stated counts as binding."""
    assert is_permissive(licence) is permissive
