"""The rules of breakers: what opens one, who gets the probe, and that one session cannot do it for others."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.circuit_breaker import MAX_STREAKS, RULE, Breaker

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "work", "release", "claim"]),
        st.integers(0, 5),  # the session
        st.integers(0, 2),  # its tenant
        st.floats(0, 90),  # seconds that pass before
    ),
    max_size=60,
)


def faults(breaker: Breaker, sessions: int, *, tenant: str = "acme") -> Breaker:
    for number in range(sessions):
        breaker = breaker.failed(NOW, f"c-{number}", tenant, f"v-{number}")
    return breaker


def test_several_sessions_open_it() -> None:
    """Two failing sessions do not, three do; it rests, then one may probe, and its success closes it."""
    assert faults(Breaker(), RULE.least_failing - 1).state(NOW) == "closed"
    opened = faults(Breaker(), RULE.least_failing)
    assert opened.state(NOW) == "open"
    assert opened.claimed(NOW, "c") is None
    later = NOW + timedelta(seconds=RULE.rest_seconds)
    assert opened.state(later) == "half_open"
    probing = opened.claimed(later, "c")
    assert probing is not None
    assert (probing.admits(later), probing.claimed(later, "other")) == (False, None)
    assert probing.claimed(later, "c") == probing  # run again after a crash, it is the same probe
    assert probing.succeeded(later, "other", "acme", "v") == probing
    assert probing.succeeded(later, "c", "acme", "v") == Breaker()


def test_a_probe_that_fails_doubles_the_rest() -> None:
    """Up to a bound; and a probe that nobody hears of is lost after a while."""
    breaker, now, rests = faults(Breaker(), 3), NOW, list[float]()
    for _ in range(8):
        assert breaker.open_until is not None
        rests.append((breaker.open_until - now).total_seconds())
        now = breaker.open_until
        claimed = breaker.claimed(now, "c")
        assert claimed is not None
        assert claimed.claimed(now + timedelta(seconds=RULE.probe_seconds), "next") is not None
        breaker = claimed.failed(now, "c", "acme", "v")
    assert rests == [15, 30, 60, 120, 240, 300, 300, 300]


def test_one_user_opens_it_for_nobody() -> None:
    """A thousand faults of one session are one vote; a tenant's thousand sessions do not outvote two others."""
    breaker = Breaker()
    for number in range(1_000):
        breaker = breaker.failed(NOW, f"c-{number}", "acme", "the same")
    assert breaker.state(NOW) == "closed"
    breaker = Breaker().failed(NOW, "c", "acme", "v").succeeded(NOW, "c", "beta", "v").succeeded(NOW, "c", "gamma", "v")
    assert faults(breaker, 1_000).state(NOW) == "closed"


def test_a_few_faults_among_many_successes_do_not_open_it() -> None:
    """The share counts, not only the number; and what is older than the window counts no more."""
    breaker = Breaker().failed(NOW, "c", "acme", "first")
    for number in range(8):
        breaker = breaker.succeeded(NOW, "c", "acme", f"well-{number}")
    assert faults(breaker, 4).state(NOW) == "closed"
    aged = faults(Breaker(), 2).failed(NOW + timedelta(seconds=RULE.window_seconds), "c", "acme", "late")
    assert aged.state(NOW) == "closed"


@given(STEPS)
def test_it_holds_whatever_happens(steps: list[tuple[str, int, int, float]]) -> None:
    """A record reads back as it was, keeps few votes, has one probe at most, and opens by faults alone."""
    breaker, now, probe, failed = Breaker(), NOW, "", False
    for number, (what, session, tenant, seconds) in enumerate(steps):
        now += timedelta(seconds=seconds)
        token, names = f"c-{number}", (f"t-{tenant}", f"v-{session}")
        before = breaker.state(now)
        if what == "claim":
            claimed = breaker.claimed(now, token)
            assert (claimed is not None) == breaker.admits(now)
            if claimed is not None and before == "half_open":
                assert not breaker.probing(now)
                probe = token
            breaker = claimed or breaker
        elif what == "release":
            breaker = breaker.released(probe)
            assert not breaker.probing(now)
        else:
            failed = failed or what == "fail"
            end = breaker.failed if what == "fail" else breaker.succeeded
            breaker = end(now, probe if session % 2 else token, *names)
            if what == "work":
                assert breaker.state(now) in {before, "closed"}
        assert failed or breaker.state(now) == "closed"
        assert len(breaker.votes) <= 6 * 3
        assert Breaker.model_validate_json(breaker.model_dump_json()) == breaker
        assert breaker.spotless or breaker.matters_until() >= now - timedelta(seconds=RULE.window_seconds) or seconds


def test_two_faults_in_a_row_make_it_rest_for_that_session_alone() -> None:
    """One does not; others are let through; one probe tries again, and its success ends it."""
    once = Breaker().failed_alone(NOW, "c-1", "mine")
    assert once.admits(NOW, "mine")
    resting = once.failed_alone(NOW, "c-2", "mine")
    assert (resting.admits(NOW, "mine"), resting.claimed(NOW, "c-3", "mine")) == (False, None)
    assert (resting.admits(NOW, "other"), resting.claimed(NOW, "c-3", "other")) == (True, resting)
    assert resting.state(NOW) == "closed"
    later = NOW + timedelta(seconds=RULE.rest_seconds)
    probing = resting.claimed(later, "c-4", "mine")
    assert probing is not None
    assert (probing.admits(later, "mine"), probing.claimed(later, "c-5", "mine")) == (False, None)
    assert probing.claimed(later, "c-4", "mine") == probing
    assert probing.released("c-4").admits(later, "mine")
    assert probing.succeeded(later, "c-4", "acme", "mine").streak("mine") is None


def test_a_fault_of_the_sessions_probe_doubles_its_rest() -> None:
    """Up to a bound; faults of calls that were on their way when the rest began do not prolong it."""
    breaker, now, rests = Breaker().failed_alone(NOW, "c", "v").failed_alone(NOW, "c", "v"), NOW, list[float]()
    assert breaker.failed_alone(NOW, "on its way", "v") == breaker
    for _ in range(6):
        own = breaker.streak("v")
        until = None if own is None else own.rests_until()
        assert until is not None
        rests.append((until - now).total_seconds())
        now = until
        claimed = breaker.claimed(now, "probe", "v")
        assert claimed is not None
        breaker = claimed.failed_alone(now, "probe", "v")
    assert rests == [15, 30, 60, 120, 240, 300]


def test_faults_far_apart_are_no_row() -> None:
    """After a while a fault is the first again; a success between two breaks the row as well."""
    late = NOW + timedelta(seconds=RULE.streak_seconds + 1)
    assert Breaker().failed_alone(NOW, "c", "v").failed_alone(late, "c", "v").admits(late, "v")
    mended = Breaker().failed_alone(NOW, "c", "v").succeeded(NOW, "c", "acme", "v").failed_alone(NOW, "c", "v")
    assert mended.admits(NOW, "v")


@given(STEPS)
def test_a_session_rests_by_its_own_faults_alone(steps: list[tuple[str, int, int, float]]) -> None:
    """A model of one counter a session: no other session moves it, and it has one probe at most.

    No call is refused before a session met two faults in a row, and every refusal ends by itself.
    """
    breaker, now, row, last = Breaker(), NOW, dict[int, int](), dict[int, datetime]()
    for number, (what, session, _, seconds) in enumerate(steps):
        now += timedelta(seconds=seconds)
        token, voter = f"c-{number}", f"v-{session}"
        others = [one for one in breaker.streaks if one.voter != voter]
        admitted = breaker.admits(now, voter)
        assert admitted or row.get(session, 0) >= RULE.in_a_row
        assert breaker.admits(now + timedelta(seconds=RULE.most_rest_seconds + RULE.probe_seconds), voter)
        claimed = breaker.claimed(now, token, voter)
        assert (claimed is not None) == admitted
        if claimed is None:
            continue
        assert claimed.admits(now, voter) == (row.get(session, 0) < RULE.in_a_row)
        if what == "fail":
            breaker = claimed.failed_alone(now, token, voter)
            fresh = now - last.get(session, now) > timedelta(seconds=RULE.streak_seconds)
            row[session] = 1 if fresh else row.get(session, 0) + 1
            last[session] = now
        elif what == "work":
            breaker = claimed.succeeded(now, token, "acme", voter)
            row[session] = 0
        else:
            breaker = claimed.released(token)
        own = breaker.streak(voter)
        assert (0 if own is None else own.faults) == row.get(session, 0)
        assert [one for one in breaker.streaks if one.voter != voter] == others
        assert Breaker.model_validate_json(breaker.model_dump_json()) == breaker
        assert breaker.spotless == (not breaker.streaks)


def test_the_sessions_with_the_latest_faults_are_kept() -> None:
    """A record does not grow with the sessions; the rule for all is not touched by faults that count alone."""
    breaker = Breaker()
    for number in range(MAX_STREAKS + 5):
        breaker = breaker.failed_alone(NOW + timedelta(seconds=number), "c", f"v-{number}")
    assert len(breaker.streaks) == MAX_STREAKS
    assert (breaker.streak("v-4"), breaker.votes, breaker.state(NOW)) == (None, (), "closed")
    assert breaker.streak(f"v-{MAX_STREAKS + 4}") is not None
