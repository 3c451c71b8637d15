"""A provider that stores completions: those that were asked for with `store` are listed by their metadata.

`GET /v1/chat/completions?metadata[key]=value` lists them, as OpenAI does. An answer is stored when it is finished.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.provider import Bill, Handler, Provider, Reply

WAIT_SECONDS = 300.0


class PatientEvent(threading.Event):
    """An event for `Reply.waits_for` that a reply waits for however slow the machine is."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, `WAIT_SECONDS` at most."""
        return super().wait(WAIT_SECONDS)


class StoringProvider(Provider):
    """A provider that keeps finished answers in `stored`, and counts in `listings` how often it was asked for them.

    If `lags`, it lists none of them. `list_status` is the status of its lists. If `ignores_filter`, it lists all of
    them, whatever metadata is asked for. A list waits for `lists`.
    """

    def __init__(self) -> None:
        self.stored: list[dict[str, Any]] = []
        self.listings: list[dict[str, str]] = []
        self.lags = False
        self.ignores_filter = False
        self.list_status = 200
        self.lists = PatientEvent()
        self.lists.set()
        self.changed = threading.Condition()
        super().__init__()

    def handler(self) -> type[Handler]:
        """Return the class that answers requests and lists."""
        return StoringHandler

    def take(self, body: dict[str, Any]) -> tuple[Reply, Bill]:
        """Return the reply to a request, and its bill; tell those that wait in `has` that it has come."""
        taken = super().take(body)
        with self.changed:
            self.changed.notify_all()
        return taken

    def has(self, *, requests: int = 0, stored: int = 0) -> bool:
        """Wait until so many requests have come and so many answers are stored, and return whether they have."""
        with self.changed:
            return self.changed.wait_for(
                lambda: len(self.requests) >= requests and len(self.stored) >= stored, WAIT_SECONDS
            )

    def store(self, body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Store an answer if its request asks for that."""
        if body.get("store"):
            with self.changed:
                self.stored.append({**answer, "metadata": body.get("metadata") or {}})
                self.changed.notify_all()

    def listed(self, metadata: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the stored answers that have this metadata."""
        with self.changed:
            self.listings.append(dict(metadata))
            if self.lags:
                return []
            return [one for one in self.stored if self.ignores_filter or metadata.items() <= one["metadata"].items()]


class StoringHandler(Handler):
    """Answers requests as `Handler` does, stores the answers, and lists them."""

    @property
    def storing(self) -> StoringProvider:
        """The provider, which stores answers."""
        assert isinstance(self.provider, StoringProvider)
        return self.provider

    def do_GET(self) -> None:  # noqa: N802 - the name that the base class calls
        """List the stored answers whose metadata is in the query."""
        query = dict(parse_qsl(urlsplit(self.path).query))
        metadata = {name[len("metadata[") : -1]: value for name, value in query.items() if name.startswith("metadata[")}
        found = self.storing.listed(metadata)
        self.storing.lists.wait()
        self.close_connection = True
        content = json.dumps({"object": "list", "data": found, "has_more": False}).encode()
        self.send_response(self.storing.list_status)
        headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._write(content)

    def whole(self, body: Mapping[str, Any], reply: Reply, bill: Bill) -> dict[str, Any]:
        """Return the reply as a whole answer, which is stored."""
        answer = super().whole(body, reply, bill)
        self.storing.store(body, answer)
        return answer


@pytest.fixture
def storing() -> Iterator[StoringProvider]:
    """A provider that stores completions, for one test."""
    made = StoringProvider()
    yield made
    made.close()
