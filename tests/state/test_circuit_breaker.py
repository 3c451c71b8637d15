"""The rules of breakers: what opens one, who gets the probe, and that one session or tenant cannot do it alone."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.circuit_breaker import RULE, Breaker

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
