"""When a breaker opens, and how it closes again: pure rules over the last outcome of each session that called.

A session has one vote, its latest outcome, for `window_seconds`. So one session that fails a thousand times counts
once, and a tenant that fails alone does not outvote the others. An open breaker lets nobody through for a while. Then
the breaker is half open and lets one caller through as the probe. If the probe succeeds, the breaker closes; if the
probe fails, the breaker opens for twice as long.

A session that meets several faults in a row, its `Streak`, need not wait for other sessions to fail: the breaker then
rests for that session alone, and the session's own probe ends that or prolongs it. Other sessions notice nothing.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

State = Literal["closed", "open", "half_open"]

MAX_TENANTS = 16  # tenants whose votes are kept: those with the latest votes
MAX_VOTES_PER_TENANT = 16
MAX_STREAKS = 64  # sessions whose faults in a row are kept: those with the latest faults


class Rule(BaseModel):
    """When a breaker opens, and for how long.

    A breaker opens if at least `least_failing` of the votes in the window are faults, if faults are at least the
    fraction `share` of all votes, and if more than half of the tenants have that fraction of faults among their own
    votes. If only one tenant has votes, that tenant is enough.

    It rests for one session alone if that session met `in_a_row` faults without a success between them, each at most
    `streak_seconds` after the one before.
    """

    model_config = ConfigDict(frozen=True)

    window_seconds: float = 60.0
    least_failing: int = 3
    share: float = 0.5
    rest_seconds: float = 15.0  # how long it is open at first; doubles with each probe that fails
    most_rest_seconds: float = 300.0
    probe_seconds: float = 120.0  # a probe that has not ended by then is lost, and another may begin
    in_a_row: int = 2
    streak_seconds: float = 600.0

    def rest(self, openings: int) -> timedelta:
        """Return how long a breaker rests that has opened `openings` times before without being closed."""
        return timedelta(seconds=min(self.rest_seconds * 2 ** min(openings, 20), self.most_rest_seconds))


RULE = Rule()


class Vote(BaseModel):
    """The latest outcome of one session, `voter`, which belongs to `tenant`. `well` is False for a fault."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    voter: str
    at: datetime
    well: bool


class Streak(BaseModel):
    """The faults that the session `voter` met in a row: how many, and when the last one was.

    If `probe` is not empty, it is the call that finds out, up to `probe_until`, whether the fault is mended.
    """

    model_config = ConfigDict(frozen=True)

    voter: str
    faults: int
    at: datetime
    probe: str = ""
    probe_until: datetime | None = None

    def rests_until(self, rule: Rule = RULE) -> datetime | None:
        """Return until when no call of the session is let through; None if there were too few faults for that."""
        return None if self.faults < rule.in_a_row else self.at + rule.rest(self.faults - rule.in_a_row)

    def admits(self, now: datetime, token: str = "", rule: Rule = RULE) -> bool:
        """Whether the call `token` of the session is let through: no rest is on, and no other call is the probe."""
        until = self.rests_until(rule)
        return until is None or (now >= until and (not self._probing(now) or self.probe == token))

    def claimed(self, now: datetime, token: str, rule: Rule = RULE) -> "Streak":
        """Return the streak after it has let the call `token` through: after a rest, the call is the probe."""
        if self.rests_until(rule) is None:
            return self
        return self.model_copy(update={"probe": token, "probe_until": now + timedelta(seconds=rule.probe_seconds)})

    def released(self) -> "Streak":
        """Return the streak without a probe, so that another call may become it."""
        return self.model_copy(update={"probe": "", "probe_until": None})

    def failed(self, now: datetime, token: str, rule: Rule = RULE) -> "Streak":
        """Return the streak after one more fault. After a rest only a fault of the probe counts, and doubles the rest.

        So calls that were on their way when the rest began do not prolong it.
        """
        if now - self.at > timedelta(seconds=rule.streak_seconds):
            return Streak(voter=self.voter, faults=1, at=now)
        if self.rests_until(rule) is not None and self.probe != token:
            return self
        return Streak(voter=self.voter, faults=self.faults + 1, at=now)

    def _probing(self, now: datetime) -> bool:
        return bool(self.probe) and self.probe_until is not None and now < self.probe_until


class Breaker(BaseModel):
    """The record of one breaker. It is frozen: a method that changes the breaker returns a new record."""

    model_config = ConfigDict(frozen=True)

    votes: tuple[Vote, ...] = ()
    open_until: datetime | None = None  # None: it is closed
    openings: int = 0  # how often it opened since it was closed last
    probe: str = ""
    probe_until: datetime | None = None
    streaks: tuple[Streak, ...] = ()  # the latest fault first

    def state(self, now: datetime) -> State:
        """Return `closed`; or, if the breaker was opened, `open` before `open_until` and `half_open` from then on."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half_open"

    def probing(self, now: datetime) -> bool:
        """Whether a probe is under way at `now` and has not run out of time."""
        return bool(self.probe) and self.probe_until is not None and now < self.probe_until

    def streak(self, voter: str) -> Streak | None:
        """Return the faults that the session met in a row; None if it met none lately."""
        return next((one for one in self.streaks if one.voter == voter), None)

    def admits(self, now: datetime, voter: str = "") -> bool:
        """Whether the breaker lets a call of the session `voter` through.

        It does if it is closed, or half open without a probe under way, and if it does not rest for that session alone.
        """
        state, own = self.state(now), self.streak(voter)
        if state != "closed":
            return state == "half_open" and not self.probing(now)
        return own is None or own.admits(now)

    def claimed(self, now: datetime, token: str, voter: str = "", rule: Rule = RULE) -> "Breaker | None":
        """Return the breaker after it has let the call `token` of the session `voter` through.

        If the breaker was half open, for all or for this session alone, the call is its probe afterwards. If the
        breaker does not let the call through, return None. The caller then must not make the call.
        """
        if self.state(now) == "closed":
            own = self.streak(voter)
            if own is None:
                return self
            return self._with(own.claimed(now, token, rule)) if own.admits(now, token, rule) else None
        if self.state(now) == "open" or (self.probing(now) and self.probe != token):
            return None
        until = now + timedelta(seconds=rule.probe_seconds)
        return self.model_copy(update={"probe": token, "probe_until": until})

    def released(self, token: str) -> "Breaker":
        """Return the breaker after the call `token` ended as neither a fault nor a success.

        If the call was the probe, the breaker has no probe now, and another call may become the probe.
        """
        if any(one.probe == token for one in self.streaks):
            kept = tuple(one.released() if one.probe == token else one for one in self.streaks)
            return self.model_copy(update={"streaks": kept})
        return self if self.probe != token else self.model_copy(update={"probe": "", "probe_until": None})

    def succeeded(self, now: datetime, token: str, tenant: str, voter: str, rule: Rule = RULE) -> "Breaker":
        """Return the breaker after the call `token` succeeded.

        If the breaker was closed, the success becomes the vote of the session `voter`, and ends the session's streak.
        If the breaker was open or half open, it closes if the call was its probe; otherwise the breaker stays as it
        was.
        """
        if self.open_until is None:
            others = tuple(one for one in self.streaks if one.voter != voter)
            voted = self._voted(Vote(tenant=tenant, voter=voter, at=now, well=True), rule)
            return voted.model_copy(update={"streaks": others})
        return Breaker() if self.probe == token else self

    def failed(self, now: datetime, token: str, tenant: str, voter: str, rule: Rule = RULE) -> "Breaker":
        """Return the breaker after the call `token` failed.

        If the breaker was closed, the fault becomes the vote of the session `voter`, and the breaker opens if the votes
        meet `rule`. If the breaker was open or half open, it opens again if the call was its probe; otherwise it stays
        as it was.
        """
        if self.open_until is not None:
            return self._opened(now, rule) if self.probe == token else self
        voted = self._voted(Vote(tenant=tenant, voter=voter, at=now, well=False), rule)
        return voted._opened(now, rule) if voted._outvoted(rule) else voted

    def failed_alone(self, now: datetime, token: str, voter: str, rule: Rule = RULE) -> "Breaker":
        """Return the breaker after the call `token` failed, where only the session `voter` counts the fault.

        If that was one fault in a row too many, the breaker rests for that session. If the breaker was open or half
        open for all, it stays as it was.
        """
        if self.open_until is not None:
            return self
        own = self.streak(voter)
        return self._with(Streak(voter=voter, faults=1, at=now) if own is None else own.failed(now, token, rule))

    def matters_until(self, rule: Rule = RULE) -> datetime:
        """Return until when the breaker must be stored: for ever if it is open, otherwise until its last fault expires.

        Raises `ValueError` if the breaker is `spotless`.
        """
        if self.open_until is not None:
            return datetime.max.replace(tzinfo=self.open_until.tzinfo)
        faults = [vote.at + timedelta(seconds=rule.window_seconds) for vote in self.votes if not vote.well]
        return max(faults + [one.at + timedelta(seconds=rule.streak_seconds) for one in self.streaks])

    @property
    def spotless(self) -> bool:
        """Whether the breaker is closed and has no vote of a fault and no streak, so that it need not be stored."""
        return self.open_until is None and not self.streaks and all(vote.well for vote in self.votes)

    def _with(self, streak: Streak) -> "Breaker":
        others = (one for one in self.streaks if one.voter != streak.voter)
        newest = sorted([streak, *others], key=lambda one: one.at, reverse=True)
        return self.model_copy(update={"streaks": tuple(newest[:MAX_STREAKS])})

    def _voted(self, vote: Vote, rule: Rule) -> "Breaker":
        since = vote.at - timedelta(seconds=rule.window_seconds)
        others = [one for one in self.votes if (one.tenant, one.voter) != (vote.tenant, vote.voter) and one.at > since]
        kept: list[Vote] = []
        by_tenant: dict[str, int] = {}
        for one in sorted([*others, vote], key=lambda one: one.at, reverse=True):
            count = by_tenant.get(one.tenant, 0)
            if count < MAX_VOTES_PER_TENANT and (count or len(by_tenant) < MAX_TENANTS):
                by_tenant[one.tenant] = count + 1
                kept.append(one)
        return self.model_copy(update={"votes": tuple(kept)})

    def _outvoted(self, rule: Rule) -> bool:
        failing = [vote for vote in self.votes if not vote.well]
        if len(failing) < rule.least_failing or len(failing) < rule.share * len(self.votes):
            return False
        tenants = {vote.tenant for vote in self.votes}
        against = {name for name in tenants if self._fails(name, rule)}
        return len(tenants) == 1 or 2 * len(against) > len(tenants)

    def _fails(self, tenant: str, rule: Rule) -> bool:
        own = [vote for vote in self.votes if vote.tenant == tenant]
        return sum(not vote.well for vote in own) >= rule.share * len(own)

    def _opened(self, now: datetime, rule: Rule) -> "Breaker":
        return Breaker(open_until=now + rule.rest(self.openings), openings=self.openings + 1)
