"""Loads the compliance rules from their TOML file, and refuses a file that has an unknown key."""

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bursar import ConfigurationError
from bursar.genie.wording.grounding import numbers
from bursar.genie.wording.identifiers import find

AgentClass = Literal["information", "advice", "data", "gate"]
REASONS = frozenset(
    {
        "agent.unlisted",
        "suitability.missing",
        "suitability.expired",
        "suitability.future",
        "answer.ungrounded_number",
        "answer.identifier_masked",
        "answer.disclosure_added",
    }
)

_Line = Annotated[str, Field(min_length=1, pattern=r"^\S[^\n]*$")]
_CLAUSE_END = re.compile(r"[.;:!?,()\n]|\b(?:and|but|plus|with|so|while|yet|because)\b")
_WORDS_AROUND = 5


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Class(_Strict):
    needs_suitability: bool = False
    disclosures: list[str] = []


class _Agent(_Strict):
    agent_class: AgentClass = Field(alias="class")
    disclosures: list[str] = []


class _Texts(_Strict):
    denied: _Line
    not_covered: _Line


class _Rule(_Strict):
    rule: Annotated[str, Field(pattern=r"^[a-z]+\.[a-z_]+$")]
    reason: _Line
    phrases: Annotated[list[str], Field(min_length=1)]


class _Phrases(_Strict):
    unless_before: list[str] = []
    unless_after: list[str] = []
    rules: Annotated[list[_Rule], Field(min_length=1)]


class _File(_Strict):
    classes: dict[AgentClass, _Class]
    agents: Annotated[dict[str, _Agent], Field(min_length=1)]
    texts: _Texts
    disclosures: dict[str, _Line]
    reasons: dict[str, _Line]
    requests: _Phrases
    promises: _Phrases


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A rule that decided something: its id, and one line that tells the user what to do."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class AgentRule:
    """The rule for one agent: whether it needs a suitability record to act, and the texts that must end its answers."""

    needs_suitability: bool
    disclosures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhraseRules:
    """Phrases, each with the rule that forbids the phrase; phrases match whole words only.

    A phrase breaks no rule if `before` matches among the five words before the phrase, or `after` among the five words
    after the phrase. Only words of the same clause count.
    """

    rules: tuple[tuple[RuleHit, re.Pattern[str]], ...]
    before: re.Pattern[str] | None
    after: re.Pattern[str] | None

    def hits(self, text: str) -> tuple[RuleHit, ...]:
        """Return the rules that `text` breaks, each once, in the order of the file."""
        said = normalise(text)
        return tuple(hit for hit, phrase in self.rules if any(self._counts(said, m) for m in phrase.finditer(said)))

    def _counts(self, said: str, match: re.Match[str]) -> bool:
        clause = _CLAUSE_END.split(said[: match.start()])[-1].split()
        before = " ".join(clause[-_WORDS_AROUND:])
        after = " ".join(_CLAUSE_END.split(said[match.end() :])[0].split()[:_WORDS_AROUND])
        excused = (self.before and self.before.search(before)) or (self.after and self.after.search(after))
        return not excused


@dataclass(frozen=True, slots=True)
class ComplianceRules:
    """The compliance rules in force; `policy_hash` is the SHA-256 of the rules' file, in hexadecimal."""

    agents: Mapping[str, AgentRule]
    reasons: Mapping[str, RuleHit]
    requests: PhraseRules
    promises: PhraseRules
    denied: str
    not_covered: str
    policy_hash: str

    def denial(self, hit: RuleHit) -> str:
        """Return the safe text that the user sees in place of a plan or an answer that `hit` denied."""
        return self.denied.format(rule=hit.rule, reason=hit.reason)


def normalise(text: str) -> str:
    """Return `text` in the form in which texts and phrases are compared.

    Compatibility forms and case are folded, quotes are straight, dashes are hyphens, spaces are single, and emphasis
    marks are gone.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"[‘’ʼ`]", "'", text)
    text = re.sub(r"[\u2010-\u2013]", "-", text)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" and c not in "*_~")
    return re.sub(r"[^\S\n]+|(?<=\S)\n(?=\S)", " ", text)


def load_rules(path: Path | None = None) -> ComplianceRules:
    """Read the rules from `path`, or the rules that come with Genie.

    Raises:
        ConfigurationError: the file cannot be read, is not TOML, has an unknown or missing key, an expression that does
            not compile, or a text for the user that the rules themselves would change. The message names the place.
    """
    source = files("bursar.genie.agents.compliance_checker").joinpath("rules.toml") if path is None else path
    try:
        content = source.read_bytes()
        parsed = _File.model_validate(tomllib.loads(content.decode()))
        rules = _rules(parsed, hashlib.sha256(content).hexdigest())
        _check_own_texts(parsed, rules)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"compliance rules {source}: {where}: {first['msg']}; fix the file") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"compliance rules {source}: {error}; fix the file") from error
    return rules


def _rules(parsed: _File, policy_hash: str) -> ComplianceRules:
    if missing := sorted(REASONS ^ parsed.reasons.keys()):
        raise ValueError(f"reasons: missing or unknown: {', '.join(missing)}")
    agents: dict[str, AgentRule] = {}
    for name, agent in parsed.agents.items():
        if agent.agent_class not in parsed.classes:
            raise ValueError(f"agents.{name}: class {agent.agent_class} is not declared under [classes]")
        declared = parsed.classes[agent.agent_class]
        keys = tuple(dict.fromkeys((*declared.disclosures, *agent.disclosures)))
        if unknown := [key for key in keys if key not in parsed.disclosures]:
            raise ValueError(f"agents.{name}: no text for disclosure {unknown[0]} under [disclosures]")
        agents[name] = AgentRule(declared.needs_suitability, tuple(parsed.disclosures[key] for key in keys))
    for name, fields in (("denied", {"rule", "reason"}), ("not_covered", {"topics"})):
        found = {field for _, field, _, _ in Formatter().parse(getattr(parsed.texts, name)) if field is not None}
        if found != fields:
            raise ValueError(f"texts.{name}: must hold exactly {', '.join(f'{{{f}}}' for f in sorted(fields))}")
    return ComplianceRules(
        agents=agents,
        reasons={key: RuleHit(key, reason) for key, reason in parsed.reasons.items()},
        requests=_phrase_rules("requests", parsed.requests),
        promises=_phrase_rules("promises", parsed.promises),
        denied=parsed.texts.denied,
        not_covered=parsed.texts.not_covered,
        policy_hash=policy_hash,
    )


def _phrase_rules(name: str, section: _Phrases) -> PhraseRules:
    ids = [rule.rule for rule in section.rules]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{name}.rules: a rule id stands twice")
    rules = tuple((RuleHit(r.rule, r.reason), _whole_words(f"{name}.{r.rule}", r.phrases)) for r in section.rules)
    before, after = (
        _whole_words(f"{name}.{key}", phrases) if phrases else None
        for key, phrases in (("unless_before", section.unless_before), ("unless_after", section.unless_after))
    )
    return PhraseRules(rules, before, after)


def _whole_words(where: str, phrases: list[str]) -> re.Pattern[str]:
    try:
        for phrase in phrases:
            re.compile(phrase)
        any_of = "|".join(f"(?:{phrase})" for phrase in phrases).replace(r"\w+", r"[\w'\-]+")
        return re.compile(rf"(?<![\w'])(?:{any_of})(?![\w'])")
    except re.error as error:
        raise ValueError(f"{where}: not a regular expression: {error}") from error


def _check_own_texts(parsed: _File, rules: ComplianceRules) -> None:
    """Raise `ValueError` if a text of the file has a number, identifier or promise.

    A review would deny or change an answer that has such a text.
    """
    own = {
        **{f"texts.{key}": text for key, text in (("denied", rules.denied), ("not_covered", rules.not_covered))},
        **{f"disclosures.{key}": text for key, text in parsed.disclosures.items()},
        **{f"reasons.{key}": text for key, text in parsed.reasons.items()},
        **{f"rules.{hit.rule}": hit.reason for hit, _ in (*rules.requests.rules, *rules.promises.rules)},
    }
    for where, text in own.items():
        if numbers(text) or find(text) or rules.promises.hits(text):
            raise ValueError(f"{where}: must hold no number, identifier or prohibited promise")
