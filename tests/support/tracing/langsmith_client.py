"""LangSmith's SDK for one test at a time, against LangSmith on loopback: switched on, flushed, and switched off."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
from langchain_core.tracers.langchain import wait_for_all_tracers
from langsmith import run_trees, utils
from langsmith.client import Client

from tests.support.tracing.langsmith_server import LangSmithServer
from tests.support.tracing.received_runs import TracedRun

KEY = "lsv2_pt_Kx3v-a-key-of-the-tests-Zq7wYp"
PROJECT = "bursar-tests"
FLUSH_SECONDS = 60
_OTHERS = ("LANGCHAIN_TRACING_V2", "LANGSMITH_OTEL_ENABLED", "LANGSMITH_HIDE_INPUTS", "LANGSMITH_HIDE_OUTPUTS")


def settings(server: LangSmithServer) -> dict[str, str]:
    """Return the environment of a process that traces to `server`."""
    return {
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_ENDPOINT": server.url,
        "LANGSMITH_API_KEY": KEY,
        "LANGSMITH_PROJECT": PROJECT,
    }


class TracedServer(LangSmithServer):
    """LangSmith on loopback to which this process traces. The SDK is flushed before anything is looked up."""

    def runs(self) -> list[TracedRun]:
        self.flush()
        return super().runs()

    def feedback(self) -> list[dict[str, Any]]:
        self.flush()
        return super().feedback()

    def texts(self) -> str:
        self.flush()
        return super().texts()

    def flush(self) -> None:
        """Have the SDK send what is waiting. It sends nothing more of a test's runs that have ended."""
        wait_for_all_tracers()

    @property
    def client(self) -> Client:
        """The client of this process, which LangChain traces with too."""
        return run_trees.get_cached_client()


def _forget() -> None:
    """Close the process's client, and forget all that LangSmith's SDK read from the environment."""
    client, run_trees._CLIENT = run_trees._CLIENT, None  # pyright: ignore[reportPrivateUsage]
    if client is not None:
        client.close(timeout=FLUSH_SECONDS)
    cast(Any, utils.get_env_var).cache_clear()
    utils.get_tracer_project.cache_clear()
    run_trees._exclude_inputs_on_patch.cache_clear()  # pyright: ignore[reportPrivateUsage]


@contextmanager
def traced(server: LangSmithServer, **more: str) -> Generator[LangSmithServer]:
    """For the block, LangChain in this process traces to `server`. `more` are further settings of the environment."""
    patch = pytest.MonkeyPatch()
    _forget()
    for name in _OTHERS:
        patch.delenv(name, raising=False)
    for name, value in (settings(server) | more).items():
        patch.setenv(name, value)
    try:
        yield server
        _forget()  # while the environment is still the block's
    finally:
        patch.undo()
        _forget()


@pytest.fixture
def langsmith() -> Iterator[TracedServer]:
    """LangSmith on loopback, to which everything that runs in one test is traced."""
    server = TracedServer()
    with traced(server):
        yield server
    server.close()


@pytest.fixture
def open_langsmith() -> Iterator[Callable[..., LangSmithServer]]:
    """Return a function that starts LangSmith on loopback with these settings; nothing is traced there by itself."""
    with ExitStack() as stack:

        def start(**settings_: Any) -> LangSmithServer:
            server = LangSmithServer(**settings_)
            stack.callback(server.close)
            return server

        yield start
