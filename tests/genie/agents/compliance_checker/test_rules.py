"""The rules are strict data: every key changes a behaviour, an unknown one stops everything."""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from bursar.genie.agents.compliance_checker.rules import load_rules, normalise
from bursar.state.errors import ConfigurationError

BUILT_IN = files("bursar.genie.agents.compliance_checker").joinpath("rules.toml").read_text("utf-8")


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(old: str, new: str) -> Path:
        assert old in BUILT_IN
        path = tmp_path / "rules.toml"
        path.write_text(BUILT_IN.replace(old, new, 1), "utf-8")
        return path

    return write


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    """The policy hash is the SHA-256 of the very bytes that were read."""
    assert load_rules().policy_hash == hashlib.sha256(BUILT_IN.encode()).hexdigest()
    path = tmp_path / "rules.toml"
    path.write_text(BUILT_IN + "# reviewed\n", "utf-8")
    assert load_rules(path).policy_hash == hashlib.sha256(path.read_bytes()).hexdigest() != load_rules().policy_hash


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[classes.gate]", "[classes.gate", "fix the file"),
        ("[classes.gate]", "[classes.judge]", "classes"),
        ("[classes.data]\n", "", "class data is not declared"),
        ('class = "data"', 'class = "oracle"', "agents.database_connector.class"),
        ('class = "data"', 'clas = "data"', "agents.database_connector"),
        ("needs_suitability = true", "needs_suitabilty = true", "needs_suitabilty"),
        ("needs_suitability = true", 'needs_suitability = "yes"', "needs_suitability"),
        ('disclosures = ["tax"]', 'disclosures = ["levy"]', "no text for disclosure levy"),
        ('"agent.unlisted" =', '"agent.unknown" =', "agent.unknown, agent.unlisted"),
        ("(rule {rule}). {reason}", "by us. {reason}", "texts.denied"),
        ("(rule {rule}). {reason}", "(rule {rule). {reason}", "in field name"),
        ("(rule {rule}). {reason}", "(rule {rule}). {reason.x}", "texts.denied"),
        ("{topics}", "{topics} {more}", "texts.not_covered"),
        ('tax = "This is', 'tax = "These 3 pages are', "disclosures.tax: must hold no number"),
        ("Every investment carries risk.", "Enjoy risk-free returns.", "rules.promise.no_risk: must hold no number"),
        ("'get rich quick(?:ly)?'", "'get rich (quick'", "not a regular expression"),
        ('rule = "promise.no_risk"', 'rule = "promise.cannot_lose"', "a rule id stands twice"),
        ('rule = "promise.no_risk"', 'rule = "No risk"', "promises.rules"),
        ("    'get rich quick(?:ly)?',\n", "    7,\n", "promises.rules"),
    ],
)
def test_bad_rules_fail_closed(broken: Callable[[str, str], Path], old: str, new: str, says: str) -> None:
    """A rules file with anything missing, unknown or unusable is refused in one line that names file and place."""
    path = broken(old, new)
    with pytest.raises(ConfigurationError, match=r"^compliance rules .*; fix the file$") as caught:
        load_rules(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """No file, no rules."""
    with pytest.raises(ConfigurationError, match=r"no-rules\.toml"):
        load_rules(tmp_path / "no-rules.toml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused with the same error."""
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="fix the file"):
        load_rules(path)


@pytest.mark.parametrize(
    "text", ["evade\u00a0tax", "**Evade** TAX", "ev\u00adade  tax", "evade\ntax", "ｅｖａｄｅ tax"]
)
def test_disguises_are_folded(text: str) -> None:
    """Case, emphasis, width, soft hyphens and spacing do not hide a phrase."""
    assert normalise(text) == "evade tax"
