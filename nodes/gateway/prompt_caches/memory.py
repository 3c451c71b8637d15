"""What this process has seen of agents' prompts: whether a prefix is read again, and what breaks it."""

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from bursar.checkpoints.database.database import Database
from bursar.nodes.gateway.prompt_caches.prompt import Prompt
from bursar.state.rules.prompt_prefix import BrokenPrefix, differing
from bursar.state.rules.reads_again import ReadsAgain

KEPT_FOR = timedelta(minutes=5)  # a provider's cache drops what nobody has read for so long
MOST_AGENTS = 512
MOST_BEGINNINGS = 1_024  # of one agent's prompts: its conversations at a time
MOST_STATIC_CHARACTERS = 200_000  # of a static part that is kept for comparison
LEAST_BYTES = 1_024  # of a prompt: a shorter one has fewer tokens than any cache takes
SHARED_PART = 4  # a static part that shares less than a quarter with the one before is another prompt
DEPTHS = 3  # a conversation's first call, its second, and all later ones
PARTS = ("its tools are not those", "its system message is not that")

logger = logging.getLogger("bursar.cache")


@dataclass(frozen=True, slots=True)
class Outlook:
    """How often what a call sends is likely to be read again: its static part, and all that it sends."""

    static: ReadsAgain
    whole: ReadsAgain


@dataclass(slots=True)
class _Sent:
    """A prompt that was sent, last read or written at `at`. `depth` is how many prompts before began it, at most 2."""

    at: datetime
    depth: int
    is_read: bool = False


@dataclass(slots=True)
class _AgentPrompts:
    """What was seen of one agent's prompts for one model, by their hashes. `last` is the last static part."""

    static: ReadsAgain = field(default_factory=ReadsAgain)
    whole: list[ReadsAgain] = field(default_factory=lambda: [ReadsAgain() for _ in range(DEPTHS)])
    statics: OrderedDict[str, datetime] = field(default_factory=OrderedDict[str, datetime])
    sent: OrderedDict[str, _Sent] = field(default_factory=OrderedDict[str, _Sent])
    last: tuple[str, str] | None = None
    is_warned: bool = False


class PromptMemory:
    """What this process has seen of the prompts of the agents of one database. It forgets the oldest first."""

    _of: "WeakKeyDictionary[Database, PromptMemory]" = WeakKeyDictionary()  # noqa: RUF012 - one registry per process

    def __init__(self) -> None:
        self._agents: OrderedDict[str, _AgentPrompts] = OrderedDict()
        # Race: an agent's calls may be sent from several threads; each takes the lock before it reads or counts.
        self._lock = threading.Lock()

    @classmethod
    def of(cls, database: Database) -> "PromptMemory":
        """Return the one `PromptMemory` that this process has for `database`."""
        return cls._of.setdefault(database, cls())

    def see(self, key: str, name: str, prompt: Prompt, at: datetime) -> Outlook:
        """Note that a prompt is sent, and return how often its parts are likely to be read again.

        `key` tells agents and models apart, `name` is the agent's name. If the prompt breaks off before the end of the
        static part that the agent's call before had, warn once for the agent.
        """
        with self._lock:
            agent = self._agents.setdefault(key, _AgentPrompts())
            self._agents.move_to_end(key)
            if len(self._agents) > MOST_AGENTS:
                self._agents.popitem(last=False)
            outlook = _seen(agent, prompt, at)
            broken = None if agent.is_warned or prompt.size < LEAST_BYTES else _broken(agent, prompt)
            agent.is_warned = agent.is_warned or broken is not None
            agent.last = tuple(part[:MOST_STATIC_CHARACTERS] for part in prompt.static)  # pyright: ignore[reportAttributeAccessIssue]
        if broken is not None:
            part, how = broken
            what = "%s: %s of its call before, so the provider's cache misses all that follows: %s"
            logger.warning(f"{what}; put what changes last", name, part, how)
        return outlook


def _seen(agent: _AgentPrompts, prompt: Prompt, at: datetime) -> Outlook:
    """Count the prompt, and return the outlook that its agent had before: what is sent now says nothing of itself."""
    static, end = prompt.beginnings[0], prompt.beginnings[-1]
    since = agent.statics.pop(static, None)
    if since is not None and at - since <= KEPT_FOR:
        agent.static = agent.static.read()
    depth = 0
    earlier = (agent.sent.get(beginning) for beginning in reversed(prompt.beginnings[:-1]))
    if (began := next((sent for sent in earlier if sent and at - sent.at <= KEPT_FOR), None)) is not None:
        if not began.is_read:
            agent.whole[began.depth] = agent.whole[began.depth].read()
        began.at, began.is_read = at, True
        depth = min(began.depth + 1, DEPTHS - 1)
    outlook = Outlook(agent.static, agent.whole[depth])
    agent.statics[static] = at
    agent.static = agent.static.sent()
    if (known := agent.sent.get(end)) is None:
        agent.whole[depth] = agent.whole[depth].sent()
        agent.sent[end] = _Sent(at, depth)
    else:  # sent again, perhaps after a failure: it is no further prompt
        known.at = at
    for kept in (agent.statics, agent.sent):
        if len(kept) > MOST_BEGINNINGS:
            kept.popitem(last=False)
    return outlook


def _broken(agent: _AgentPrompts, prompt: Prompt) -> tuple[str, BrokenPrefix] | None:
    """Return which part of the static part is not that of the call before, and how; None if it is the same part.

    None too if the two share less than a quarter: then the agent has two prompts, and neither breaks the other.
    """
    if agent.last is None or agent.last == prompt.static:
        return None
    found = differing(agent.last, prompt.static)
    if found is None:
        return None
    place, broken = found
    shared = broken.kept + sum(map(len, prompt.static[:place]))
    whole = min(sum(map(len, agent.last)), sum(map(len, prompt.static)))
    same_parts = broken.why != "other"
    return (PARTS[place], broken) if same_parts or shared * SHARED_PART >= whole > 0 else None
