"""Processes that can be killed: they are forked from a server that has imported the program once."""

import os
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.support.databases import any_url as url

__all__ = ["processes", "url"]

SLOW_IMPORTS = ("alembic.command", "genai_prices.data", "openai.resources.chat", "psycopg")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts real processes; each is a fresh fork of a server without threads."""
    os.environ["PYTHONPATH"] = str(ROOT)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.programs.victim", *SLOW_IMPORTS])
    return context
