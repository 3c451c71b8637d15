"""A small sample made by a seed, in the form of the recorded runs, for tests, CI and the notebook; and looping runs.

The sample shows that everything works; its figures say nothing about the world.
"""

import random
from collections.abc import Sequence

from benchmarks.savings.records import AgentRun, Question, Recorded, RecordedCall

SEED = 7
WORKED, CHOICES, RUNS, LOOPING = 12, 20, 3, 3
SUBJECTS = {
    "history": (80, 5),
    "law": (600, 6),
    "physics": (120, 40),
}  # characters, and percent gained by the dear model
MODELS = (("openai", "gpt-4.1"), ("azure", "gpt-4o-2024-11-20"), ("anthropic", "claude-opus-4-6"))
UNTIL = 200  # calls: a run that loops ends here at the latest, as a harness's own limit ends it
SAMPLE_UNTIL = 42  # in the sample, which must be quick


def sample(seed: int = SEED) -> Recorded:
    """Return the sample: the same for the same seed, on every machine."""
    chance = random.Random(seed)
    worked = [_worked(number, chance) for number in range(WORKED)]
    choices = [_choice(number, chance) for number in range(CHOICES)]
    runs = tuple(_run(number, chance) for number in range(RUNS))
    return Recorded((*worked, *choices), runs, looping(runs, number=LOOPING, until=SAMPLE_UNTIL, seed=seed))


def looping(runs: Sequence[AgentRun], *, number: int, until: int = UNTIL, seed: int = SEED) -> tuple[AgentRun, ...]:
    """Return runs that begin as recorded ones and then loop, until a harness ends them after `until` calls.

    They loop in three ways: one asks for the same tool call again and again, one for two calls in turns, and one for a
    new call each time.
    """
    chance = random.Random(seed)
    chosen = [chance.choice(runs) for _ in range(number)]
    return tuple(_loop(run, place, until, chance) for place, run in enumerate(chosen))


def _loop(run: AgentRun, place: int, until: int, chance: random.Random) -> AgentRun:
    begun = list(run.calls[: chance.randint(1, max(1, len(run.calls) // 2))])
    spoken, told = chance.randint(20, 60), chance.randint(60, 180)
    while len(begun) < until:
        last = begun[-1]
        size = last.prompt_tokens + last.completion_tokens + told
        begun.append(RecordedCall(size, spoken, (("look_up", _arguments(place, len(begun))),)))
    return AgentRun(f"looping:{place}:{run.name}", run.agent, run.seller, run.model, tuple(begun), is_success=False)


def _arguments(place: int, number: int) -> str:
    kind = place % 3
    return "same" if kind == 0 else str(number % 2) if kind == 1 else str(number)


def _worked(number: int, chance: random.Random) -> Question:
    boxes, pens, price = chance.randint(2, 9), chance.randint(3, 12), chance.randint(2, 5)
    text = f"Shop {number} has {boxes} boxes of {pens} pens at ${price} a pen. What do all the pens cost?"
    total = boxes * pens
    kind = chance.choices(("right", "wrong", "cut", "lucky"), (60, 20, 15, 5))[0]
    said = total + (10 if kind == "wrong" else 0)
    answer = f" There are {boxes}*{pens}=<<{boxes}*{pens}={said}>>{said} pens."
    if kind != "cut":
        answer += f"\nThey cost {said}*{price}=<<{said}*{price}={said * price}>>{said * price}.\n#### {said * price}"
    is_right = kind == "right" or (kind == "lucky" and chance.random() < 0.5)
    return Question("gsm8k", "", text, is_right, chance.random() < 0.9, answer, -(-len(answer) // 4), 60)


def _choice(number: int, chance: random.Random) -> Question:
    subject = chance.choice(sorted(SUBJECTS))
    characters, gained = SUBJECTS[subject]
    text = f"Question {number} of {subject}. ".ljust(characters + chance.randint(0, characters), "?")
    is_known = chance.random() < 0.5
    return Question("mmlu", subject, text, is_known, is_known or chance.randint(1, 100) <= 2 * gained, "", 1, 1)


def _run(number: int, chance: random.Random) -> AgentRun:
    seller, model = MODELS[number % len(MODELS)]
    size, calls = chance.randint(3_000, 6_000), list[RecordedCall]()
    for step in range(chance.randint(4, 12)):
        spoken = chance.randint(15, 120)
        tools = (("look_up", f"{number}-{step}"),) if step % 2 else ()
        calls.append(RecordedCall(size, spoken, tools))
        size += spoken + chance.randint(40, 300)
    return AgentRun(f"sample:{number}", f"sample of {model}", seller, model, tuple(calls), chance.random() < 0.6)
