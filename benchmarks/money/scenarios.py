"""The scenarios, by what they try."""

from benchmarks.money.job import Program
from benchmarks.money.scenario import USUAL, USUAL_WORDS, Scenario
from benchmarks.money.seller import DEAR_MODEL, EMBEDDING_MODEL, Answer

WORDY = Answer(words=8_000)
SLOW = Answer(words=USUAL_WORDS, seconds=0.3)
SLOW_WORDY = Answer(words=2_000, seconds=0.3)
LOOPS = Answer(words=USUAL_WORDS, tool_rounds=3)
FOREVER = Answer(words=USUAL_WORDS, tool_rounds=10_000)


def _calls(calls: int, max_tokens: int | None = None, **more: object) -> Program:
    return Program(calls=calls, max_tokens=max_tokens, **more)  # pyright: ignore[reportArgumentType] - as declared there


def _shape(shape: str, **more: object) -> Program:
    return Program(shape=shape, **more)  # pyright: ignore[reportArgumentType] - as declared there


ONE_CALL = (
    Scenario(name="plain_answer", shows="an ordinary answer within its limit"),
    Scenario(name="plain_stream", shows="an ordinary stream within its limit", program=_calls(1, stream=True)),
    Scenario(name="wordy_answer", shows="the model writes 8,000 words, and nobody named a cap", seller=WORDY),
    Scenario(name="wordy_stream", shows="the same, streamed", program=_calls(1, stream=True), seller=WORDY),
    Scenario(name="high_cap", shows="the program asks for 16,000 tokens", program=_calls(1, 16_000), seller=WORDY),
    Scenario(
        name="long_prompt", shows="the prompt alone costs twice the limit", program=_calls(1, prompt_bytes=100_000)
    ),
    Scenario(name="ten_choices", shows="n=10 in the call", program=_calls(1, 1_000, options={"n": 10}), seller=WORDY),
    Scenario(
        name="priority_tier",
        shows="a tier at 1.7 times the price",
        program=_calls(3, 1_500, options={"service_tier": "priority"}),
        seller=WORDY,
    ),
    Scenario(
        name="dear_model_hidden",
        shows="extra_body names a model at 17 times the price",
        program=_calls(1, 1_000, extra_body={"model": DEAR_MODEL}),
        seller=WORDY,
    ),
    Scenario(
        name="choices_hidden",
        shows="extra_body asks for 20 answers",
        program=_calls(1, 500, extra_body={"n": 20}),
        seller=WORDY,
    ),
    Scenario(
        name="reasoning_tokens",
        shows="3,000 tokens of hidden reasoning a call",
        program=_calls(4),
        seller=Answer(words=100, reasoning=3_000),
    ),
    Scenario(
        name="cached_prompt",
        shows="most of each prompt is billed as cached",
        program=_calls(5, 300, prompt_bytes=4_000),
        seller=Answer(words=150, cached=0.8),
    ),
    Scenario(name="zero_budget", shows="a limit of 0", limit="0"),
    Scenario(name="tiny_budget", shows="a limit of a thousandth of a cent", limit="0.00001"),
    Scenario(name="many_calls", shows="40 ordinary calls; the limit pays 20", program=_calls(40)),
    Scenario(name="many_wordy_calls", shows="10 calls of 1,500 words", program=_calls(10), seller=Answer(words=1_500)),
    Scenario(
        name="dear_model",
        shows="a model at 17 times the price, 10 calls",
        program=_calls(10, 300, model=DEAR_MODEL),
        limit="0.005",
    ),
    Scenario(
        name="cheaper_model",
        shows="a dear model; a cheaper one may answer",
        program=_calls(10, 300, model=DEAR_MODEL, cheaper="gpt-4o-mini"),
        limit="0.005",
    ),
)

FAULTS = (
    Scenario(
        name="usage_missing",
        shows="the seller reports no usage",
        program=_calls(30, 300),
        seller=Answer(words=300, usage="missing"),
    ),
    Scenario(
        name="usage_missing_in_stream",
        shows="the same, streamed",
        program=_calls(30, 300, stream=True),
        seller=Answer(words=300, usage="missing"),
    ),
    Scenario(
        name="usage_in_every_chunk",
        shows="a stream repeats its usage",
        program=_calls(3, 300, stream=True),
        seller=Answer(words=150, usage="in every chunk"),
    ),
    Scenario(name="rate_limited", shows="two refusals, then an answer", first=[Answer(status=429)] * 2),
    Scenario(name="server_errors", shows="two unbilled errors, then an answer", first=[Answer(status=500)] * 2),
    Scenario(
        name="billed_gateway_timeouts",
        shows="a proxy gives up; the model is billed",
        program=_calls(4, 1_500, retries=4),
        seller=Answer(words=1_500, status=504, billed_error=True),
    ),
    Scenario(
        name="answer_cut",
        shows="the connection breaks after each billed answer",
        program=_calls(4, 1_500, retries=4),
        seller=Answer(words=1_500, cut_after=0),
    ),
    Scenario(
        name="stream_cut",
        shows="each stream breaks after five chunks",
        program=_calls(4, 1_500, stream=True, retries=4),
        seller=Answer(words=1_500, cut_after=5),
    ),
    Scenario(
        name="stream_cut_once",
        shows="one stream breaks; the next is whole",
        program=_calls(2, 300, stream=True),
        first=[Answer(words=150, cut_after=3)],
    ),
    Scenario(
        name="slow_seller",
        shows="each call outlives its timeout and is billed",
        program=_calls(3, 1_000, retries=3, timeout=0.2),
        seller=Answer(words=1_000, seconds=1.0),
    ),
    Scenario(
        name="slow_once",
        shows="one call outlives its timeout; the next is in time",
        program=_calls(1, 300, timeout=0.3),
        first=[Answer(words=150, seconds=1.0)],
    ),
    Scenario(
        name="fallback_to_dear",
        shows="the model is down; the dear one answers at length",
        program=_calls(3, fallback=DEAR_MODEL),
        first=[Answer(status=400)] * 1,
        seller=Answer(words=2_000),
    ),
    Scenario(
        name="fallback_after_timeouts",
        shows="the model hangs, billed; the dear one answers",
        program=_calls(2, 300, fallback=DEAR_MODEL, timeout=0.2, retries=1),
        first=[Answer(words=300, seconds=1.0)] * 2,
        seller=USUAL,
    ),
)

LOOPS_AND_TEAMS = (
    Scenario(
        name="tool_loop", shows="three tools, then an answer, within the limit", program=_shape("agent"), seller=LOOPS
    ),
    Scenario(
        name="tool_loop_forever",
        shows="the model asks for a tool in every answer",
        program=_shape("agent"),
        seller=FOREVER,
    ),
    Scenario(
        name="tool_loop_growing",
        shows="each tool returns 20 kB, sent again with every call",
        program=_shape("agent", tool_bytes=20_000),
        seller=Answer(words=150, tool_rounds=10),
    ),
    Scenario(
        name="tool_loop_wordy",
        shows="two tools, then 8,000 words",
        program=_shape("agent"),
        seller=Answer(words=8_000, tool_rounds=2),
    ),
    Scenario(
        name="tools_at_once",
        shows="eight tool calls in each answer, for ever",
        program=_shape("agent", tool_bytes=2_000),
        seller=Answer(words=150, tool_rounds=10_000, tool_calls=8),
    ),
    Scenario(name="structured", shows="an answer by a schema, within the limit", program=_shape("structured")),
    Scenario(
        name="structured_repair",
        shows="two answers that do not fit the schema, then one that does",
        program=_shape("structured", retries=3),
        seller=Answer(words=150, malformed=2),
    ),
    Scenario(
        name="structured_never",
        shows="no answer ever fits the schema; long reasoning each time",
        program=_shape("structured", retries=30),
        seller=Answer(words=150, reasoning=1_000, malformed=10_000),
    ),
    Scenario(
        name="team",
        shows="an agent asks another, within the limit",
        program=_shape("team"),
        seller=Answer(words=100, tool_rounds=1),
    ),
    Scenario(
        name="team_wide",
        shows="an agent asks six others at once, each loops",
        program=_shape("team"),
        seller=Answer(words=150, tool_rounds=3, tool_calls=6, seconds=0.1),
    ),
    Scenario(
        name="team_deep",
        shows="three levels, two agents at each",
        program=_shape("team", depth=3),
        seller=Answer(words=400, tool_rounds=2, tool_calls=2, seconds=0.1),
    ),
    Scenario(
        name="team_wordy",
        shows="four agents inside write 3,000 words each",
        program=_shape("team"),
        seller=Answer(words=3_000, tool_rounds=1, tool_calls=4, seconds=0.1),
    ),
)

AT_ONCE = (
    Scenario(
        name="fan_out",
        shows="40 ordinary calls at once; the limit pays 20",
        program=_shape("fan_out", calls=40, max_tokens=300),
        seller=SLOW,
    ),
    Scenario(
        name="fan_out_wordy",
        shows="ten calls at once, 2,000 words each",
        program=_shape("fan_out", calls=10),
        seller=SLOW_WORDY,
    ),
    Scenario(
        name="fan_out_streams",
        shows="the same, streamed",
        program=_shape("fan_out", calls=10, stream=True),
        seller=SLOW_WORDY,
    ),
    Scenario(
        name="fan_out_timeouts",
        shows="ten calls at once outlive their timeout, with retries",
        program=_shape("fan_out", calls=10, max_tokens=300, timeout=0.2, retries=2),
        seller=Answer(words=300, seconds=1.0),
    ),
    Scenario(
        name="fan_out_rate_limited",
        shows="ten calls at once, each refused once, then answered at length",
        program=_shape("fan_out", calls=10),
        seller=SLOW_WORDY,
        first=[Answer(status=429)] * 10,
    ),
    Scenario(
        name="fan_out_within",
        shows="four calls at once, within the limit",
        program=_shape("fan_out", calls=4, max_tokens=300),
        seller=SLOW,
    ),
)

CRASHES = (
    Scenario(name="killed_in_call", shows="killed in its only call", program=_calls(1, 300), kills=[1]),
    Scenario(name="killed_in_third_call", shows="killed in the third of five calls", program=_calls(5, 300), kills=[3]),
    Scenario(
        name="killed_in_stream",
        shows="killed in the second of three streams",
        program=_calls(3, 300, stream=True),
        kills=[2],
    ),
    Scenario(
        name="killed_in_tool_loop", shows="killed after two tools", program=_shape("agent"), seller=LOOPS, kills=[3]
    ),
    Scenario(
        name="killed_for_ever",
        shows="killed in every fourth call of an endless loop, five times",
        program=_shape("agent"),
        seller=FOREVER,
        limit="0.0005",
        kills=[4, 8, 12, 16, 20],
    ),
    Scenario(
        name="killed_in_fan_out",
        shows="killed while ten calls are under way",
        program=_shape("fan_out", calls=10, max_tokens=300),
        seller=SLOW,
        limit="0.005",
        kills=[10],
    ),
    Scenario(
        name="killed_in_team",
        shows="killed in an inner agent",
        program=_shape("team"),
        seller=Answer(words=150, tool_rounds=1, tool_calls=2, seconds=0.1),
        kills=[3],
    ),
    Scenario(
        name="killed_in_team_often",
        shows="killed four times, in and around inner agents",
        program=_shape("team"),
        seller=Answer(words=150, tool_rounds=2),
        kills=[2, 4, 7, 9],
        lost_because="nobody saw the end of four calls, so they stay charged at their holds, and a call without a cap "
        "holds a quarter of what is left",
    ),
    Scenario(
        name="killed_in_team_often_capped",
        shows="the same, and the program names a cap",
        program=_shape("team", max_tokens=300),
        seller=Answer(words=150, tool_rounds=2),
        kills=[2, 4, 7, 9],
    ),
    Scenario(
        name="exhausted_and_resumed",
        shows="the exhausted request is resumed three times",
        program=_calls(10),
        seller=Answer(words=1_500),
        resumes=3,
    ),
)

MANY = (
    Scenario(
        name="session_cap",
        shows="12 wordy requests of one session under a session's limit",
        program=_shape("sessions", calls=1, turns=12),
        seller=Answer(words=1_000),
        scope="session",
    ),
    Scenario(
        name="session_cap_streams",
        shows="the same, streamed",
        program=_shape("sessions", calls=1, turns=12, stream=True),
        seller=Answer(words=1_000),
        scope="session",
    ),
    Scenario(
        name="tenant_cap",
        shows="12 sessions of one tenant, one after another",
        program=_shape("sessions", calls=12),
        seller=Answer(words=1_000),
        scope="tenant",
    ),
    Scenario(
        name="tenant_cap_at_once",
        shows="12 sessions of one tenant at once",
        program=_shape("sessions", calls=12, at_once=True),
        seller=Answer(words=1_000, seconds=0.3),
        scope="tenant",
    ),
    Scenario(
        name="regenerate",
        shows="one answer regenerated 12 times under a session's limit",
        program=_shape("sessions", turns=12, regenerates=True),
        seller=Answer(words=1_000),
        scope="session",
    ),
    Scenario(
        name="two_processes_one_tenant",
        shows="two processes, six sessions each, one tenant",
        program=_shape("sessions", calls=6, at_once=True),
        seller=Answer(words=1_000, seconds=0.3),
        scope="tenant",
        processes=2,
    ),
    Scenario(
        name="two_processes_two_teams",
        shows="two processes, a wide team in each, one tenant",
        program=_shape("team"),
        seller=Answer(words=400, tool_rounds=2, tool_calls=3, seconds=0.1),
        scope="tenant",
        processes=2,
    ),
    Scenario(
        name="two_processes_one_session",
        shows="two processes run one session's request",
        program=_calls(6, 1_000),
        seller=Answer(words=1_000, seconds=0.1),
        scope="session",
        processes=2,
        one_session=True,
    ),
    Scenario(
        name="embeddings",
        shows="batches of texts beyond the limit",
        program=_shape("embeddings", calls=20, batch=50, prompt_bytes=1_500, model=EMBEDDING_MODEL),
    ),
    Scenario(
        name="embeddings_without_usage",
        shows="the same, and the seller reports no usage",
        program=_shape("embeddings", calls=20, batch=50, prompt_bytes=1_500, model=EMBEDDING_MODEL),
        seller=Answer(usage="missing"),
    ),
    Scenario(
        name="embeddings_within",
        shows="one batch of texts within the limit",
        program=_shape("embeddings", calls=1, batch=10, model=EMBEDDING_MODEL),
    ),
)

SCENARIOS = (*ONE_CALL, *FAULTS, *LOOPS_AND_TEAMS, *AT_ONCE, *CRASHES, *MANY)
