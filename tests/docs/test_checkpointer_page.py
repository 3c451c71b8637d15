"""What the page on the checkpointer says, tried: its Python runs, its tables are the code's."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy.engine import make_url

from bursar import SQLAlchemySaver
from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.url import Settings, parse
from bursar.state import errors, refusals
from tests.docs.pages import ROOT, blocks, first_column, run_python

FILE = ROOT / "docs" / "checkpointer.md"
PAGE = FILE.read_text()
Opens = Callable[[], AbstractAsyncContextManager[SQLAlchemySaver]]


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks run one after the other as one script, and the checkpointer is served as `langgraph.json` says."""
    monkeypatch.chdir(tmp_path)
    script = run_python(PAGE, FILE)
    assert "session s-1 is running in process" in capsys.readouterr().out
    ((_, settings),) = blocks(PAGE, "json")
    name = json.loads(settings)["checkpointer"]["path"].rpartition(":")[2]

    async def serve() -> None:
        async with cast(Opens, script[name])() as saver:
            assert await saver.aget_tuple({"configurable": {"thread_id": "s-1"}}) is not None

    asyncio.run(serve())
    Database.at("sqlite:///sessions.db").close()


def test_every_setting_is_in_the_table() -> None:
    """With the default that the code has."""
    rows = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 4]
    shown = {name.strip().strip("`"): value.strip() for name, value in rows}
    expected = {name: "on" if value is True else f"{value:g}" for name, value in asdict(Settings()).items()}
    assert {name: shown.get(name) for name in first_column(PAGE, "setting")} == expected


def test_the_url_that_is_shown_is_read() -> None:
    """As the page says."""
    assert parse(make_url("postgresql+psycopg://user@host/db?pool_size=20&statement_timeout=10"))[1] == Settings(
        pool_size=20, statement_timeout=10
    )
    assert "?pool_size=20&statement_timeout=10" in PAGE


def test_the_errors_of_the_table_are_bursars() -> None:
    """Each has that name."""
    assert set(first_column(PAGE, "error")) <= {*vars(errors), *vars(refusals)}
