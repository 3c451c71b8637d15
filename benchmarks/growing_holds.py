"""Measures how much of a budget many streams at once can use: with holds that grow, and with holds for whole answers.

Eight tenants have 128 streams each, all at once, against a provider on loopback that bills each token that it writes.
Each tenant's budget is what its streams need one after the other: the sum of their costs and the hold of one stream.
So every refusal, and every stream that is cut short, is one that a sequential run would not have.

The answers are as long as chat answers are: log-normal, median 200 tokens, sigma 0.8. The provider writes eight tokens
an event, and each event fills its socket's buffer, so that it is never far ahead of its reader, as a model that writes
slowly is not. It reports the tokens so far in each event, or the tokens of all at the end alone.
"""

import asyncio
import itertools
import json
import random
import resource
import socket
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from langchain_openai import ChatOpenAI

from benchmarks.harness import SEED, Ratio, Result
from bursar import Ledger, Price, meter
from bursar.checkpoints.ledger import requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.spend import spend_of
from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.nodes.gateway.paid_calls.journal import CUT_SHORT
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.state.refusals import Refused

AT = datetime(2026, 1, 1, tzinfo=UTC)
TENANTS, STREAMS = 8, 128
MEDIAN_TOKENS, SIGMA, CAP = 200, 0.8, 2_048
INPUT_NANOS, OUTPUT_NANOS = 150, 600  # for a token
TOKENS_PER_EVENT, EVENT_BYTES, BUFFER_BYTES = 8, 4_096, 2_048
USABLE = 0.98
PROMPT_TOKENS = 40
OPEN_FILES = 8_192


@dataclass(slots=True)
class Seller:
    """A provider on loopback that bills what it writes. A question is `TENANT STREAM TOKENS`: the answer's length.

    `billed` has the nano-dollars of each tenant. With `reports`, each event reports the output tokens so far.
    """

    reports: bool
    billed: list[int] = field(default_factory=lambda: [0] * TENANTS)
    url: str = ""
    answering: "set[asyncio.Task[None] | None]" = field(default_factory=lambda: set())

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection by a stream, until it ends or the client hangs up."""
        self.answering.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            [length] = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line]
            asked = json.loads(await reader.readexactly(length))
            tenant, _, tokens = (int(word) for word in asked["messages"][0]["content"].split())
            self.billed[tenant] += PROMPT_TOKENS * INPUT_NANOS
            writer.transport.set_write_buffer_limits(0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            whole = min(tokens, asked["max_completion_tokens"])
            for written in range(0, whole, TOKENS_PER_EVENT):
                more = min(TOKENS_PER_EVENT, whole - written)
                self.billed[tenant] += more * OUTPUT_NANOS
                writer.write(self._event(" word" * more, written + more if self.reports else None))
                await writer.drain()
            writer.write(self._event(None, whole) + b"data: [DONE]\n\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up: nothing more is written, and nothing more is billed
        finally:
            writer.close()
            self.answering.discard(asyncio.current_task())

    async def _end(self) -> None:
        for task in list(self.answering):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _event(self, text: str | None, tokens: int | None) -> bytes:
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS}
        choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": None}
        event: dict[str, object] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        event["choices"] = [choice]
        if tokens is not None:
            event["usage"] = {**usage, "total_tokens": PROMPT_TOKENS + tokens}
        return f"data: {json.dumps({**event, 'padding': 'x' * EVENT_BYTES})}\n\n".encode()

    @contextmanager
    def serving(self) -> Generator[None]:
        """Serve in a thread of its own for the block."""
        loop, listening = asyncio.new_event_loop(), socket.create_server(("127.0.0.1", 0), backlog=TENANTS * STREAMS)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        begun = asyncio.run_coroutine_threadsafe(asyncio.start_server(self.answer, sock=listening), loop)
        server = begun.result()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(server.close)
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


@dataclass(slots=True)
class Tenant:
    """One tenant's streams, and how they fared. Amounts are nano-dollars.

    `spent_at_first` is what was spent when the first stream was refused or cut short; None if none was.
    """

    number: int
    lengths: list[int]
    scope: Scope
    whole: int = 0
    cut: int = 0
    refused: int = 0
    spent_at_first: int | None = None

    def needs(self) -> int:
        """What the streams cost one after the other."""
        return sum(PROMPT_TOKENS * INPUT_NANOS + tokens * OUTPUT_NANOS for tokens in self.lengths)

    def budget(self) -> int:
        """What the streams need one after the other: their cost, and the hold of a whole answer for the last one."""
        return self.needs() + CAP * OUTPUT_NANOS + 1_000 * INPUT_NANOS

    def spent(self) -> int:
        """What the tenant was charged so far, without holds."""
        return self.scope.ledger.run(spend_of, self.scope.scopes[1]).spent.nanos

    async def ask(self, model: MeteredChatModel, number: int) -> None:
        """Ask for one stream and read it to its end."""
        cut = False
        try:
            async for chunk in model.astream(f"{self.number} {number} {self.lengths[number]}", max_tokens=CAP):
                cut = cut or CUT_SHORT in chunk.response_metadata
        except Refused:
            self.refused += 1
        else:
            self.cut, self.whole = self.cut + cut, self.whole + (not cut)
            if not cut:
                return
        if self.spent_at_first is None:
            self.spent_at_first = await asyncio.to_thread(self.spent)


def run(*, smoke: bool = False) -> list[Result]:
    """Run the streams in three ways, and return what of each budget was usable.

    Raises `AssertionError` if a tenant was billed more than its budget, or charged less than it was billed.
    """
    streams = 12 if smoke else STREAMS
    ways = (("whole holds", False, False), ("growing, by bytes", True, False), ("growing, by reports", True, True))
    result = Result(f"{TENANTS} tenants with {streams} streams at once each: what of a budget is usable")
    for name, grows, reports in ways:
        tenants, billed = asyncio.run(_measured(streams, grows=grows, reports=reports))
        result.notes.append(f"{name}: {_told(tenants, billed)}")
        if reports:
            each = sorted(one.needs() / max(one.spent_at_first or one.needs(), 1) for one in tenants)
            middle = each[len(each) // 2]
            result.ratios.append(Ratio("needed", "usable", "nano-dollars", middle, each[0], each[-1], 1 / USABLE))
    return [result]


async def _measured(streams: int, *, grows: bool, reports: bool) -> tuple[list[Tenant], list[int]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))
    seller, narrow = Seller(reports), [(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)]
    with tempfile.TemporaryDirectory() as folder, seller.serving():
        ledger = Ledger(f"sqlite:///{folder}/books.db")
        tenants = _tenants(ledger, streams)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = httpx.AsyncHTTPTransport(limits=limits, socket_options=narrow)
        async with httpx.AsyncClient(transport=transport, timeout=600) as client:
            settings: dict[str, Any] = {"model": "m", "api_key": "none", "base_url": seller.url}
            chat = ChatOpenAI(**settings, http_async_client=client)
            model = meter(chat, price=Price("0.15", "0.60"), growing_holds=grows)
            await asyncio.gather(*(_all(tenant, model) for tenant in tenants))
        for tenant in tenants:
            billed, charged = seller.billed[tenant.number], await asyncio.to_thread(tenant.spent)
            assert billed <= charged <= tenant.budget(), (
                f"{billed} billed, {charged} charged, {tenant.budget()} allowed"
            )
        assert ledger.verify()
        ledger.database.close()
    return tenants, seller.billed


async def _all(tenant: Tenant, model: MeteredChatModel) -> None:
    with tenant.scope.enter():
        await asyncio.gather(*(tenant.ask(model, number) for number in range(len(tenant.lengths))))


def _tenants(ledger: Ledger, streams: int) -> list[Tenant]:
    chance, made, numbers = random.Random(SEED), list[Tenant](), itertools.count()
    for number in range(TENANTS):
        name = f"t{number}"
        drawn = [round(MEDIAN_TOKENS * chance.lognormvariate(0, SIGMA)) for _ in range(streams)]
        scopes = (f"tenant:{name}:2026-01-01", f"session:{name}", f"request:{name}", f"agent:{name}:a")
        scope = Scope(
            ledger=ledger,
            session_id=name,
            request_id=name,
            agent="a",
            checkpoint_ns="a:1",
            scopes=scopes,
            new_id=lambda: f"c-{next(numbers)}",
            clock=lambda: AT,
        )
        tenant = Tenant(number, [max(1, min(tokens, CAP)) for tokens in drawn], scope)
        accounts = [Account(scopes[0], tenant.budget()), *(Account(one, None) for one in scopes[1:])]
        ledger.run(requests.open_session, name, name, at=AT)
        ledger.run(requests.open_request, name, name, accounts=accounts, text_hash="0" * 64, at=AT)
        made.append(tenant)
    return made


def _told(tenants: list[Tenant], billed: list[int]) -> str:
    usable = [
        min(1.0, (one.needs() if one.spent_at_first is None else one.spent_at_first) / one.needs()) for one in tenants
    ]
    spent = [billed[one.number] / one.needs() for one in tenants]
    over = sum(billed[one.number] > one.budget() for one in tenants)
    whole, cut = sum(one.whole for one in tenants), sum(one.cut for one in tenants)
    refused = sum(one.refused for one in tenants)
    return (
        f"{over} over budget; usable {min(usable):.1%} to {max(usable):.1%} of each budget; billed in the end "
        f"{min(spent):.1%} to {max(spent):.1%}; {whole} answers whole, {cut} cut short, {refused} refused"
    )
