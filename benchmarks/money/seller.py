"""A seller of chat completions and embeddings on loopback: it bills each body that it receives, and keeps the bills.

It speaks OpenAI's protocol, whole and streamed. The bill is made when the request arrives: by its model, its tier, its
`n`, its output cap and what the model writes under that cap. A word is a token; a prompt has a token for four bytes.
Every answer carries a mark of its own, by which one finds out later who got it.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, cast

BYTES_PER_TOKEN = 4
WORDS_PER_CHUNK = 20
MODEL, DEAR_MODEL, EMBEDDING_MODEL = "gpt-4o-mini", "gpt-4o", "text-embedding-3-small"
RATES = {  # nano-dollars for a token of input, of cached input and of output, as OpenAI lists them
    MODEL: (150, 75, 600),
    DEAR_MODEL: (2_500, 1_250, 10_000),
    EMBEDDING_MODEL: (20, 20, 0),
}
PRIORITY_RATES = {MODEL: (250, 125, 1_000), DEAR_MODEL: (4_250, 2_125, 17_000)}
MODEL_MAX_TOKENS = 16_384
TOOL_CALL_TOKENS = 12
MARK = re.compile(r"\ba\d+z\b")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How the seller answers one HTTP request, and what the model would write if no cap stopped it.

    A status other than 200 is an error. The error is billed like an answer only if `billed_error`. With `tool_rounds`,
    the model asks for `tool_calls` calls of the request's first tool until the conversation has so many rounds of
    results; then it writes. With `malformed`, the first so many answers that should be JSON are not.
    """

    words: int = 40
    reasoning: int = 0
    cached: float = 0.0  # the share of the prompt that is billed as cached
    status: int = 200
    billed_error: bool = False
    tool_rounds: int = 0
    tool_calls: int = 1
    malformed: int = 0
    usage: Literal["sound", "missing", "in every chunk"] = "sound"
    cut_after: int | None = None  # a stream breaks after so many chunks; a whole answer after its header
    seconds: float = 0.0  # how long the model takes


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What one HTTP request costs, the mark of its answer, and the marks that were in the request."""

    mark: str
    nanos: int
    quotes: frozenset[str]


@dataclass
class Seller:
    """The seller's server, which runs from its creation until `close`.

    The first requests get the answers in `first`, in the order of their arrival; all others get `default`.
    `on_request` is called with the number of requests so far when one has come and is billed, before it is answered.
    """

    default: Answer
    first: Sequence[Answer] = ()
    on_request: Callable[[int], None] = lambda number: None
    bills: list[Bill] = field(default_factory=list[Bill])
    requests: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"seller": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def billed(self) -> int:
        """The nano-dollars billed so far."""
        with self.lock:
            return sum(bill.nanos for bill in self.bills)

    def lost(self, said: Sequence[str]) -> int:
        """Return the nano-dollars of the answers that are of no use to a caller who got the texts `said`.

        An answer is of use if its mark is in those texts, or in a request whose own answer is of use. What is paid
        twice is of use once.
        """
        found = set(MARK.findall("\n".join(said)))
        with self.lock:
            by_mark = {bill.mark: bill for bill in self.bills}
        new = list(found)
        while new:
            bill = by_mark.get(new.pop())
            quoted = bill.quotes - found if bill else frozenset[str]()
            found |= quoted
            new.extend(quoted)
        return sum(bill.nanos for bill in by_mark.values() if bill.mark not in found)

    def close(self) -> None:
        """Stop the server."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: dict[str, Any]) -> tuple[Answer, "_Written"]:
        """Bill a request, and return how to answer it and what the model wrote."""
        # Race: requests arrive in several threads. The lock gives each its number, its answer and its bill at once.
        with self.lock:
            number = self.requests
            self.requests += 1
            answer = self.first[number] if number < len(self.first) else self.default
            written = _write(body, answer, f"a{number}z", number)
            if answer.status == 200 or answer.billed_error:
                quotes = frozenset(MARK.findall(json.dumps(body.get("messages", ""))))
                self.bills.append(Bill(mark=written.mark, nanos=written.nanos(body), quotes=quotes))
        self.on_request(number + 1)
        return answer, written


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What a model wrote, and the tokens that this took."""

    mark: str
    text: str
    tool_calls: list[dict[str, Any]]
    input_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    output_tokens: int
    finish: str

    def nanos(self, body: Mapping[str, Any]) -> int:
        rates = RATES | (PRIORITY_RATES if body.get("service_tier") == "priority" else {})
        per_input, per_cached, per_output = rates[str(body["model"])]
        fresh = self.input_tokens - self.cached_tokens
        return fresh * per_input + self.cached_tokens * per_cached + self.output_tokens * per_output

    @property
    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


def _write(body: Mapping[str, Any], answer: Answer, mark: str, number: int) -> _Written:
    asked = [body.get(name) for name in ("messages", "tools", "response_format", "input")]
    inputs = len(json.dumps(asked, ensure_ascii=False).encode()) // BYTES_PER_TOKEN
    cap = int(body.get("max_completion_tokens") or body.get("max_tokens") or MODEL_MAX_TOKENS)
    reasoning = min(answer.reasoning, cap)
    room, calls = cap - reasoning, _tool_calls(body, answer, mark, number)
    if "input" in body:
        text, tokens = "", 0
    elif calls:
        text, tokens = "", min(room, TOOL_CALL_TOKENS * len(calls))
    else:
        tokens = min(room, answer.words)
        text = " ".join([mark, *(f"word{index}" for index in range(1, tokens))][:tokens])
        if "response_format" in body:
            text = f"{mark} is no JSON" if number < answer.malformed else json.dumps({"note": text, "stars": 4})
    return _Written(
        mark=mark,
        text=text,
        tool_calls=calls,
        input_tokens=inputs,
        cached_tokens=int(inputs * answer.cached),
        reasoning_tokens=reasoning,
        output_tokens=(reasoning + tokens) * int(body.get("n") or 1),
        finish="length" if tokens == room else "tool_calls" if calls else "stop",
    )


def _tool_calls(body: Mapping[str, Any], answer: Answer, mark: str, number: int) -> list[dict[str, Any]]:
    """Return the tool calls that the model writes: of the structured answer's tool, or of the first tool."""
    tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
    if not tools:
        return []
    messages = cast("list[dict[str, Any]]", body["messages"])
    rounds = sum(1 for message in messages if message.get("tool_calls"))
    if "Rating" in tools or "final_result" in tools:
        arguments: dict[str, Any] = {"wrong": mark} if number < answer.malformed else {"note": mark, "stars": 4}
        asks = [arguments]
    elif rounds < answer.tool_rounds:
        # Each call is another: an agent that stops repetitions does not stop at these.
        asks = [{"number": 100 * number + call} for call in range(answer.tool_calls)]
    else:
        return []
    name = next((one for one in tools if one in {"Rating", "final_result"}), tools[0])
    return [
        {
            "index": index,
            "id": f"call-{mark}-{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, arguments in enumerate(asks)
    ]


class _Handler(BaseHTTPRequestHandler):
    seller: Seller
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Print nothing; the base class would print a line for each request."""

    def do_POST(self) -> None:
        self.close_connection = True
        sent = self.rfile.read(int(self.headers["content-length"]))
        if len(sent) < int(self.headers["content-length"]):
            return  # the client was killed before the whole request had left it
        body = cast("dict[str, Any]", json.loads(sent))
        answer, written = self.seller.take(body)
        self.seller.closing.wait(answer.seconds)  # the model works; it stops only with the server
        try:
            if answer.status != 200:
                self._whole({"error": {"message": "no", "type": "test", "code": None}}, answer.status)
            elif "input" in body:
                self._whole(_vectors(body, answer, written))
            elif body.get("stream"):
                self._stream(body, answer, written)
            elif answer.cut_after is not None:
                self._begin(200, {"content-type": "application/json", "content-length": "100000"})
            else:
                self._whole(_completion(body, answer, written))
        except OSError:
            return  # the client has hung up

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "connection": "close", "retry-after-ms": "10"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _whole(self, answer: Mapping[str, Any], status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self._begin(status, {"content-type": "application/json", "content-length": str(len(content))})
        self.wfile.write(content)

    def _stream(self, body: Mapping[str, Any], answer: Answer, written: _Written) -> None:
        self._begin(200, {"content-type": "text/event-stream"})
        for index, chunk in enumerate(_chunks(body, answer, written)):
            if answer.cut_after == index:
                return
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


def _head(body: Mapping[str, Any], written: _Written, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{written.mark}", "object": kind, "created": 1_700_000_000, "model": body["model"]}


def _completion(body: Mapping[str, Any], answer: Answer, written: _Written) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": written.text or None}
    if written.tool_calls:
        message["tool_calls"] = written.tool_calls
    choices = [
        {"index": index, "message": message, "finish_reason": written.finish}
        for index in range(int(body.get("n") or 1))
    ]
    tier = {"service_tier": body["service_tier"]} if "service_tier" in body else {}
    usage = {} if answer.usage == "missing" else {"usage": written.usage}
    return {**_head(body, written, "chat.completion"), "choices": choices, **tier, **usage}


def _chunks(body: Mapping[str, Any], answer: Answer, written: _Written) -> list[dict[str, Any]]:
    words = written.text.split(" ")
    pieces = [" ".join(words[i : i + WORDS_PER_CHUNK]) + " " for i in range(0, len(words), WORDS_PER_CHUNK)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": piece} for piece in pieces]
    if written.tool_calls:
        deltas = [{"role": "assistant", "content": None, "tool_calls": written.tool_calls}]
    head = _head(body, written, "chat.completion.chunk")
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": written.finish})
    each = {"usage": written.usage} if answer.usage == "in every chunk" else {}
    chunks = [{**head, "choices": [choice], **each} for choice in choices]
    options = cast("dict[str, Any]", body.get("stream_options") or {})
    if answer.usage == "sound" and options.get("include_usage"):
        chunks.append({**head, "choices": [], "usage": written.usage})
    return chunks


def _vectors(body: Mapping[str, Any], answer: Answer, written: _Written) -> dict[str, Any]:
    """Return an embedding for each text. Its first number is the number in the answer's mark."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    number = float(written.mark.strip("az"))
    data = [{"object": "embedding", "index": i, "embedding": [number, 0.5]} for i in range(len(texts))]
    used = {"prompt_tokens": written.input_tokens, "total_tokens": written.input_tokens}
    usage = {} if answer.usage == "missing" else {"usage": used}
    return {"object": "list", "data": data, "model": body["model"], **usage}
