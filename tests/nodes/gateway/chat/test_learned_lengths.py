"""What an agent's answers took is in the books, and a call without a cap of its own may take as much at least."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from bursar.checkpoints.ledger.admission_facts import ENOUGH_ANSWERS, USES, AnswerLengths, answer_lengths
from bursar.nodes.gateway.meter import meter
from tests.support.bench import SESSION, Bench, make_bench
from tests.support.provider import MODEL, Provider, Reply

PRIOR = 512
TIGHT = "0.0012"  # a quarter of it pays for fewer tokens than an ordinary answer, all of it for more than 1,000


@pytest.fixture
def books(provider: Provider, any_url: str) -> Iterator[Bench]:
    """A bench on SQLite and on PostgreSQL."""
    yield from make_bench(provider, any_url)


def answered(bench: Bench, *lengths: int, request: str = "r-1", agent: str = "spending") -> None:
    """Let the agent get whole answers of so many tokens each."""
    with bench.scope("1", request=request, agent=agent).enter():
        for number, length in enumerate(lengths):
            bench.provider.will(Reply(text=" ".join(["word"] * length)))
            bench.model().invoke(f"question {request} {number}", max_tokens=2_000)


def first_cap(bench: Bench, request: str, *, agent: str = "spending", budget: str = TIGHT) -> int:
    """Return the output cap of a call without a cap of its own, in a request with little money."""
    with bench.scope(budget, request=request, agent=agent).enter():
        bench.model().invoke(f"how long may you answer in {request}?")
    return int(bench.provider.requests[-1]["max_completion_tokens"])


def test_lengths_are_by_the_nearest_rank(books: Bench) -> None:
    """Of twenty answers the median is the tenth, and the quantile of 99.5 % the last; others' answers do not count."""
    assert books.ledger.read(answer_lengths, "spending", MODEL) == AnswerLengths(0, 0, 0)
    answered(books, *range(100, 120))
    answered(books, 900, request="r-2", agent="tax")
    assert books.ledger.read(answer_lengths, "spending", MODEL) == AnswerLengths(20, 109, 119)
    assert books.ledger.read(answer_lengths, "tax", MODEL) == AnswerLengths(1, 900, 900)
    assert books.ledger.read(answer_lengths, "spending", "another") == AnswerLengths(0, 0, 0)


def test_only_the_last_thousand_answers_count(bench: Bench) -> None:
    """Five answers of a thousand are above the quantile, and an answer before the last thousand is forgotten."""
    answered(bench, 9)
    copy = (
        "INSERT INTO bursar_calls (call_id, session_id, request_id, agent, checkpoint_ns, request_hash, occurrence, "
        "model, price_version, state, amount, scopes, held_at, whole, ended_at, output_tokens) "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001) "
        "SELECT 'x' || i, 'other', 'other', agent, '', 'h', i, model, '', 'void', 0, '[]', held_at, whole, "
        "printf('2027-%05d', i), CASE WHEN i = 1 THEN 9999 WHEN i <= 6 THEN 800 ELSE 50 END FROM bursar_calls, n"
    )
    bench.ledger.database.run(lambda connection: connection.execute(text(copy)))
    assert bench.ledger.read(answer_lengths, "spending", MODEL) == AnswerLengths(1_000, 50, 50)
    drop = "DELETE FROM bursar_calls WHERE call_id = 'x1001'"
    bench.ledger.database.run(lambda connection: connection.execute(text(drop)))
    assert bench.ledger.read(answer_lengths, "spending", MODEL) == AnswerLengths(1_000, 50, 800)
    bench.ledger.database.run(
        lambda connection: connection.execute(text("DELETE FROM bursar_calls WHERE state = 'void'"))
    )


def test_a_first_cap_is_not_below_what_answers_took(books: Bench) -> None:
    """Before there are enough answers it is not below the prior of 512, after that not below their quantile."""
    answered(books, *[700] * (ENOUGH_ANSWERS - 1))
    assert first_cap(books, "r-2") == PRIOR
    answered(books, 700, request="r-3")
    for number in range(1, USES):  # what was read is used for some calls
        assert first_cap(books, f"r-2-{number}") == PRIOR
    assert first_cap(books, "r-4") == 700
    assert first_cap(books, "r-5", agent="tax") == PRIOR


def test_the_money_left_decides_in_the_end(books: Bench) -> None:
    """If what is left pays for less than answers took, the cap is what it pays for; with plenty it is a quarter."""
    answered(books, *[700] * ENOUGH_ANSWERS)
    assert 64 <= first_cap(books, "r-2", budget="0.0003") < 500
    assert first_cap(books, "r-3", budget="1") > 4_000


def test_an_answer_that_the_budget_cut_is_no_measure(books: Bench) -> None:
    """A cut answer says how much money there was, not how long the agent's answers are; nor does one without usage."""
    books.provider.default = Reply(text=" ".join(["word"] * 3_000))
    with books.scope(TIGHT, request="r-2").enter():
        assert "cut_short_by_budget" in books.model().invoke("tell me all").response_metadata
    books.provider.default = Reply(usage=False)
    with books.scope("1", request="r-3").enter():
        books.model().invoke("tell me all")
    assert books.ledger.read(answer_lengths, "spending", MODEL).answers == 0
    answered(books, 30, request="r-4")
    assert books.ledger.read(answer_lengths, "spending", MODEL).answers == 1


def test_a_streams_first_cap_is_learned_too(books: Bench) -> None:
    """A stream whose hold grows sends the learned cap."""
    answered(books, *[700] * ENOUGH_ANSWERS)
    books.provider.default = Reply(shape="cumulative")
    with books.scope(TIGHT, request="r-2").enter():
        list(meter(books.chat(), growing_holds=True).stream("hello"))
    assert books.provider.requests[-1]["max_completion_tokens"] == 700


def test_the_lengths_are_read_by_an_index(bench: Bench) -> None:
    """No call of another agent is looked at, however many there are."""
    query = (
        "EXPLAIN QUERY PLAN SELECT output_tokens FROM bursar_calls WHERE agent = 'a' AND model = 'm' AND whole IS TRUE "
        "ORDER BY ended_at DESC LIMIT 1000"
    )
    bench.scope()
    [plan] = bench.ledger.database.run(lambda connection: [str(row[3]) for row in connection.execute(text(query))])
    assert "SEARCH bursar_calls USING COVERING INDEX bursar_calls_answers (agent=? AND model=?)" in plan


def test_an_edited_mark_is_found(bench: Bench) -> None:
    """What is learned from is in the log: a call that is made a measure afterwards does not verify."""
    answered(bench, 30)
    set_to = "UPDATE bursar_calls SET whole = {}"
    bench.ledger.database.run(lambda connection: connection.execute(text(set_to.format("FALSE"))))
    assert "whole answer" in str(bench.ledger.verify(SESSION))
    bench.ledger.database.run(lambda connection: connection.execute(text(set_to.format("TRUE"))))
    assert bench.ledger.verify(SESSION)
