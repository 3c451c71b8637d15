"""The free router: total, deterministic, offline, and honest about what it does not know."""

import asyncio
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.nodes.routers import example_router
from bursar.nodes.routers.base import Candidate, Scores
from bursar.nodes.routers.example_router import ExampleRouter
from bursar.state.errors import ConfigurationError

GARDEN = Candidate("garden", "Plants, soil and pruning", ("when do I prune my roses", "which soil do tomatoes need"))
PIANO = Candidate("piano", "Piano lessons, scales and sheet music", ("teach me the C major scale on the piano",))
SAILING = Candidate(
    "sailing", "Sailing: wind, knots and navigation", ("how do I tack against the wind", "how do I tie a bowline knot")
)
CLUBS = (GARDEN, PIANO, SAILING)

router = ExampleRouter()


def route(text: str, candidates: Sequence[Candidate] = CLUBS, by: ExampleRouter = router) -> Scores:
    return asyncio.run(by.route(text, candidates))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my roses need pruning, when is that done?", ("garden",)),
        ("which scales should I practise on the piano", ("piano",)),
        ("what knot ties a sail", ("sailing",)),
    ],
)
def test_one_to_three_examples_are_enough(text: str, expected: tuple[str, ...]) -> None:
    """With one or two examples per specialist a reworded question finds its specialist."""
    assert route(text).chosen == expected


def test_one_specialist_is_chosen_only_where_it_fits() -> None:
    """A single specialist with a single example is no catch-all."""
    assert route("a scale on the piano, please", [PIANO]).chosen == ("piano",)
    assert route("what's the weather like tomorrow", [PIANO]).chosen == ()


@pytest.mark.parametrize("text", ["tell me a joke", "who won the election", "write a Python function", "hello"])
def test_none_of_these(text: str) -> None:
    """A request that no specialist serves chooses none, and every candidate still has its score."""
    scores = route(text)
    assert scores.chosen == ()
    assert set(scores.by_name) == {"garden", "piano", "sailing"}
    assert scores.rule == "examples: 0 of 3 above 0.30"


def test_a_question_that_asks_two_things_finds_both() -> None:
    """Each clause is read by itself too, so neither intent drowns the other; the best fit comes first."""
    scores = route("How do I prune roses, and which knot should I tie for sailing?")
    assert set(scores.chosen) == {"garden", "sailing"}
    assert list(scores.chosen) == sorted(scores.chosen, key=lambda name: -scores.by_name[name])
    assert scores.rule == "examples: 2 of 3 above 0.30"


def test_changing_the_question_changes_the_choice() -> None:
    """The same candidates give different choices for different questions."""
    assert route("prune the roses").chosen != route("tie a bowline").chosen


def test_the_users_own_out_of_scope_requests_are_learned() -> None:
    """A request near a specialist's subject can be declared out of scope."""
    strict = ExampleRouter(out_of_scope=["deliver roses to my mother", "order a bunch of roses", "send roses"])
    assert route("please send roses to my mother", by=strict).chosen == ()
    assert route("when do I prune my roses", by=strict).chosen == ("garden",)


def test_a_specialist_with_nothing_but_a_name_is_found_by_it() -> None:
    """No example and no description: the name itself is learned."""
    assert route("I want sheep shearing", [Candidate("sheep_shearing", "")]).chosen == ("sheep_shearing",)


def test_examples_in_another_script_work_alike() -> None:
    """Examples in any script that parts its words route questions in that script."""
    garden = Candidate("garden", "", ("когда обрезать розы", "какая почва нужна помидорам"))
    piano = Candidate("piano", "", ("хочу учить гаммы на пианино",))
    assert route("когда лучше обрезать мои розы", [garden, piano]).chosen == ("garden",)
    assert route("сыграть гамму на пианино", [garden, piano]).chosen == ("piano",)


def test_text_of_which_nothing_is_known_is_declined_without_confidence() -> None:
    """An unknown script is "none of these" at confidence 0, so that a cascade asks its model."""
    scores = route("どうやって薔薇を剪定しますか")
    assert (scores.chosen, scores.confidence) == ((), 0.0)


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_blank_text_is_surely_none(text: str) -> None:
    """Nothing was asked, so no model need be paid to confirm it."""
    scores = route(text)
    assert (scores.chosen, scores.confidence, set(scores.by_name.values())) == ((), 1.0, {0.0})


def test_no_candidates_is_none() -> None:
    """Without candidates the answer is empty, not an error."""
    assert route("when do I prune roses", ()) == Scores({}, (), 1.0, "examples: nothing to route")


def test_a_question_after_a_long_paste_is_read() -> None:
    """Of 100 kB the first and the last thousand characters are read, so the question at the end still counts."""
    assert route("x" * 100_000 + ". When do I prune my roses?").chosen == ("garden",)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(st.characters(codec=None), max_size=50).map(lambda s: s * 50))
def test_routing_is_total(text: str) -> None:
    """Any text is answered: a score in 0..1 for every candidate, and exactly those at the threshold chosen."""
    scores = route(text)
    assert set(scores.by_name) == {"garden", "piano", "sailing"}
    assert all(0.0 <= score <= 1.0 for score in scores.by_name.values())
    assert set(scores.chosen) == {name for name, score in scores.by_name.items() if score >= 0.3}
    assert 0.0 <= scores.confidence <= 1.0
    assert "\n" not in scores.rule


@settings(max_examples=8, deadline=None)
@given(st.lists(st.builds(Candidate, st.text(), st.text(), st.lists(st.text(), max_size=3).map(tuple)), max_size=4))
def test_routing_is_total_for_any_candidates(candidates: list[Candidate]) -> None:
    """Blank, odd and repeated candidates are fitted too; each name has a score."""
    scores = route("when do I prune my roses", candidates)
    assert set(scores.by_name) == {c.name for c in candidates}


@settings(max_examples=5, deadline=None)
@given(st.permutations(CLUBS), st.sampled_from(["prune roses and tie a knot", "a piano scale", "hello", "wind?"]))
def test_the_order_of_candidates_does_not_matter(candidates: list[Candidate], text: str) -> None:
    """Equal candidates in any order give equal scores, choice and confidence, from a fresh fit each time."""
    fresh = route(text, candidates, ExampleRouter())
    known = route(text)
    assert fresh == known


def test_one_fit_serves_all_threads() -> None:
    """Threads that ask for the same candidates at once share one fitted model."""
    shared = ExampleRouter()
    seen: list[object] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        shared.fit(CLUBS)
        seen.append(route("prune roses", by=shared))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [seen[0]] * 4
    assert len(shared._fitted) == 1  # pyright: ignore[reportPrivateUsage]


def test_kept_models_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest model makes room, and is fitted again when it is asked for."""
    monkeypatch.setattr(example_router, "FITTED_LIMIT", 1)
    small = ExampleRouter()
    small.fit([GARDEN])
    small.fit([PIANO])
    assert list(small._fitted) == [(PIANO,)]  # pyright: ignore[reportPrivateUsage]
    assert route("prune my roses", [GARDEN], small).chosen == ("garden",)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    """A threshold that could never or always be met is a configuration error."""
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        ExampleRouter(threshold)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_extreme_thresholds_are_allowed(threshold: float) -> None:
    """At 0 every candidate fits, at 1 practically none; the confidence stays in 0..1."""
    scores = route("when do I prune my roses", by=ExampleRouter(threshold))
    assert len(scores.chosen) == (3 if threshold == 0.0 else 0)
    assert 0.0 <= scores.confidence <= 1.0


def test_without_scikit_learn_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The router cannot be made without its library, and names the two ways out."""
    monkeypatch.setattr(importlib.util, "find_spec", dict[str, None]().get)
    with pytest.raises(ConfigurationError, match=r"install bursar\[router\] or pass router="):
        ExampleRouter()


@pytest.mark.slow
def test_making_a_router_loads_no_heavy_library() -> None:
    """scikit-learn, scipy and numpy are imported by the first fit, not before."""
    script = (
        "import sys; from bursar.nodes.routers.example_router import ExampleRouter; ExampleRouter();"
        "print([m for m in ('sklearn', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
