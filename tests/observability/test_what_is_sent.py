"""What goes out to LangSmith is small, does not grow with the session, and names no account in clear."""

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

from bursar import Ledger, Report, Task, meter
from bursar.genie.app import open_genie
from bursar.genie.household.sample import END
from tests.observability.scenario import chat, look_up, stamp, wire
from tests.observability.tracers import langsmith_observer
from tests.support.approvals import shown
from tests.support.clock import Clock
from tests.support.graphs import answer_of, ask, build, free
from tests.support.provider import Provider, Reply
from tests.support.tracing.langsmith_client import TracedServer

IBAN, CARD = "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111"
FACT = "a fact of the books"
TURNS = 12


def app_of(ledger: Ledger, provider: Provider, **settings: Any) -> Any:
    """A supervisor of two specialists, with ids and times that are equally long in each turn."""
    numbers = itertools.count()
    model = meter(chat(provider), max_output_tokens=100)

    async def food(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text, data={"facts": [*[FACT] * 200]})

    def rent(task: Task) -> Report:
        return Report(answer=model.invoke(task.text).text)

    return build(
        ledger,
        [free("food", food), free("rent", rent)],
        clock=Clock(),
        new_id=lambda: f"{next(numbers):012}",
        **settings,
    )


def test_a_turns_trace_does_not_grow_with_the_session(
    ledger: Ledger, provider: Provider, langsmith: TracedServer
) -> None:
    """The twelfth turn's is at most 1.3 times as long as the first one's."""
    app = app_of(ledger, provider)
    for _ in range(TURNS):
        answer_of(ask(app, "how much did I spend for food, and how much for rent?"))
    sizes = [langsmith.bytes_of(root.trace_id) for root in langsmith.roots()]
    assert len(sizes) == TURNS
    assert sizes[-1] <= 1.3 * sizes[0], sizes


def test_the_facts_of_a_report_are_sent_once(ledger: Ledger, provider: Provider, langsmith: TracedServer) -> None:
    """Nodes post what they did, and not all that the state has."""
    answer_of(ask(app_of(ledger, provider)))
    assert langsmith.texts().count(FACT) <= 200


def test_a_trace_shows_question_and_answer_nevertheless(
    ledger: Ledger, provider: Provider, langsmith: TracedServer
) -> None:
    """At the root, and at each agent its own."""
    provider.default = Reply(text="it was little")
    answer_of(ask(app_of(ledger, provider), "how much for food?"))
    [root] = langsmith.roots()
    assert "how much for food?" in str(root.inputs)
    assert "it was little" in str(root.outputs)
    [food] = langsmith.named("food")
    assert "how much for food?" in str(food.inputs)
    assert "it was little" in str(food.outputs)


def masked(text: str) -> str:
    """Hide all digits."""
    return re.sub(r"\d", "*", text)


def is_in(identifier: str, text: str) -> bool:
    """Whether an identifier is in a text, with or without its spaces."""
    return identifier in text or identifier.replace(" ", "") in text


def test_a_mask_covers_all_that_is_sent(ledger: Ledger, provider: Provider, langsmith: TracedServer) -> None:
    """Question, prompt, answer, facts, failures and reasons: no identifier is sent in clear by any run."""
    model = meter(chat(provider), max_output_tokens=100)
    provider.default = Reply(text=f"{IBAN} and {CARD}")

    def echo(task: Task) -> Report:
        found = f"{model.invoke(task.text).text}, {look_up(IBAN)}, {stamp(CARD)}"
        return Report(answer=found, data={"accounts": [IBAN], "nested": {CARD: CARD}})

    def fails(task: Task) -> Report:
        raise ValueError(f"no account {IBAN}, no card {CARD}")

    app = build(
        ledger, [free("echo", echo), free("fails", fails)], show_errors=True, observers=[langsmith_observer(masked)]
    )
    result = ask(app, f"what of {IBAN} and {CARD}?")
    assert IBAN in answer_of(result)
    sent = langsmith.texts()
    assert "echo" in sent
    assert not is_in(IBAN, sent)
    assert not is_in(CARD, sent)
    assert langsmith.pending() == []


def test_a_mask_covers_what_a_person_is_asked(ledger: Ledger, langsmith: TracedServer) -> None:
    """The approval shows to whom money goes; the trace does not."""

    def transfer(task: Task) -> Report:
        return Report(answer=wire(IBAN, 500))

    app = build(ledger, [free("transfer", transfer)], approvers=["ann"], observers=[langsmith_observer(masked)])
    result = ask(app, "pay them")
    assert shown(result)[0].arguments["to"] == IBAN
    assert "transfer" in langsmith.texts()
    assert not is_in(IBAN, langsmith.texts())


def test_a_mask_leaves_costs_and_ids_as_they_are(ledger: Ledger, provider: Provider, langsmith: TracedServer) -> None:
    """It is for texts. Money, ids and outcomes are read by programs."""
    app = app_of(ledger, provider, observers=[langsmith_observer(masked)])
    result = ask(app)
    [root] = langsmith.roots()
    assert langsmith.cost() == result["spend"].spent.dollars > 0
    assert root.metadata["thread_id"] == "s-1"
    assert root.metadata["bursar.request_id"]
    assert "*" not in str(root.metadata["bursar.request_id"])


def test_genie_masks_by_default(sample_file: Path, tmp_path: Path, langsmith: TracedServer) -> None:
    """Nobody said anything of a mask, and no account number of the question is in any run."""
    file = tmp_path / "genie.db"
    shutil.copy(sample_file, file)
    genie = open_genie(f"sqlite:///{file}", as_of=END, environment={})
    genie.ask(f"How much did I pay from {IBAN} with card {CARD} for groceries in March?", "s-1")
    genie.close()
    sent = langsmith.texts()
    assert "groceries" in sent
    assert not is_in(IBAN, sent)
    assert not is_in(CARD, sent)
    [root] = langsmith.roots()
    assert langsmith.bytes_of(root.trace_id) < 150_000  # its facts are 61 KB, and were sent four times
