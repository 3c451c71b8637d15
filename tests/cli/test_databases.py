"""The command line over any database that a URL can name: with settings, on PostgreSQL, through PgBouncer."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bursar.genie.household.sample import sample_files
from tests.cli.conftest import Run
from tests.support import servers

QUESTION = "What did I spend on groceries in March 2025?"


@pytest.mark.slow
def test_settings_stand_in_the_url(run: Run, sample: Path) -> None:
    """Every command reads them; a wrong one is told in one line."""
    url = f"sqlite:///{sample}?timeout=3"
    assert run("ask", QUESTION, "--session", "s-1", "--as-of", "2025-12-31", "--database", url).code == 0
    assert run("sessions", "--database", url).code == 0
    wrong = run("sessions", "--database", f"sqlite:///{sample}?timeout=never")
    assert wrong.refused_in_one_line(2, "timeout must be from 0 to 3600 seconds, not 'never'")


@pytest.mark.slow
@pytest.mark.postgres
def test_genie_works_through_pgbouncer(
    run: Run, sample: Path, new_postgres: Callable[[], AbstractContextManager[str]]
) -> None:
    """Import, answer, resume, audit: the household's data and the books behind the same pooler, as on SQLite."""
    here = run("ask", QUESTION, "--session", "s-1", "--as-of", "2025-12-31", "--json")
    with new_postgres() as server, servers.pgbouncer(server) as pooled:
        over = ("--database", f"{pooled}?pool_size=4&statement_timeout=20")
        assert run("import", *map(str, sample_files()), *over).code == 0
        asked = run("ask", QUESTION, "--session", "s-1", "--as-of", "2025-12-31", "--json", *over)
        assert json.loads(asked.out)["answer"] == json.loads(here.out)["answer"]
        for command in (["resume", "s-1", "--as-of", "2025-12-31"], ["audit", "s-1"], ["verify"], ["sessions"]):
            ended = run(*command, *over)
            assert ended.code == 0, ended.err or ended.out
