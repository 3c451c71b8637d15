"""Through a PgBouncer in transaction mode, which gives each transaction to whichever server connection is free."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from bursar import Ledger, SQLAlchemySaver
from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.engines import POOLED
from bursar.state.errors import DatabaseError, SessionBusy
from bursar.state.money import USD
from tests.graphs.never_two_writers.owner_program import SESSION, plain
from tests.support import servers
from tests.support.graphs import answer_of, ask, build, priced, rules, scripted, session, specialist

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).parents[3]
PROCESSES, THREADS, REQUESTS = 3, 4, 3
LEFT_BEHIND = """
SELECT (SELECT count(*) FROM pg_prepared_statements),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
       (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
       (SELECT count(*) FROM pg_listening_channels()),
       (SELECT string_agg(name || '=' || setting, ' ') FROM pg_settings WHERE source = 'session'
        AND name NOT IN ('application_name', 'client_encoding'))
"""


@pytest.fixture
def direct(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """URL of an empty database, straight to the server."""
    with new_postgres() as url:
        yield url


@pytest.fixture
def pooled(direct: str) -> Iterator[str]:
    """URL of the same, through the pooler; three server connections are for all."""
    with servers.pgbouncer(direct) as url:
        yield url


def pooler_is_between(connection: Connection) -> bool:
    """As the connection's set-up found out."""
    return bool(connection.info[POOLED])


def run_session(url: str, name: str) -> None:
    """Some requests of one session, with a call that is paid and its checkpoints."""
    ledger = Ledger(url)
    for number in range(REQUESTS):
        with scripted(f"{name} {number}") as model:
            app = build(ledger, [specialist("a", priced(model))])
            assert answer_of(ask(app, name=name)) == f"{name} {number}"


def sessions_of(process: str) -> list[str]:
    """What one process runs at once."""
    return [f"{process}-{number}" for number in range(THREADS)]


def test_a_pooler_is_noticed(direct: str, pooled: str) -> None:
    """By itself; straight to the server there is none."""
    for url, expected in ((direct, False), (pooled, True)):
        database = Database(url)
        assert database.run(pooler_is_between) is expected
        database.close()


def test_many_processes_and_threads_work_through_it(direct: str, pooled: str) -> None:
    """Tables are made by processes that start at once; requests of many sessions are paid, kept and in the books."""
    code = "import sys; from tests.graphs.never_two_writers.test_pgbouncer import work; work(*sys.argv[1:])"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, pooled, f"p{number}"], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for number in range(PROCESSES)
    ]
    for one in running:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
    ledger = Ledger(direct)
    names = [name for number in range(PROCESSES) for name in sessions_of(f"p{number}")]
    assert sorted(row.session_id for row in ledger.sessions()) == names
    app = build(ledger, [specialist("a", rules)])
    for name in names:
        assert ledger.spend(name).spent == USD("0.002") * REQUESTS
        assert len(app.get_state(session(name)).values["messages"]) == 2 * REQUESTS
    assert ledger.open_holds() == []
    assert ledger.verify()
    ledger.database.close()


def work(url: str, process: str) -> None:
    """What each process does."""
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(run_session, url, name) for name in sessions_of(process)]:
            done.result()


def test_nothing_outlasts_a_transaction(direct: str) -> None:
    """The next client on the one server connection finds no setting, lock, prepared statement or table of ours."""
    with servers.pgbouncer(direct, connections=1) as pooled:
        run_session(pooled, "s-1")
        saver = SQLAlchemySaver(pooled)
        with saver.own(SESSION) as owned:
            for number in range(10):
                plain(saver).invoke({"notes": [str(number)]}, owned.config)
        saver.prune(["s-1"])
        with psycopg.connect(pooled.replace("+psycopg", ""), prepare_threshold=None) as next_client:
            assert next_client.execute(LEFT_BEHIND.encode()).fetchall() == [(0, 0, 0, 0, None)]
        saver.database.close()


def test_a_session_has_one_owner_through_it(pooled: str) -> None:
    """Two processes want the same session: nothing is lost, nothing forked, every refusal clean."""
    command = [sys.executable, "-m", "tests.graphs.never_two_writers.owner_program", pooled, "count"]
    both = [
        subprocess.Popen([*command, name, "10"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    for one in both:
        out, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
        json.loads(out)
    saver = SQLAlchemySaver(pooled)
    notes = plain(saver).get_state({"configurable": {"thread_id": SESSION}}).values["notes"]
    assert sorted(notes) == sorted(
        f"{name} {run}{done}" for name in "ab" for run in range(10) for done in ("", " done")
    )
    with saver.own(SESSION), pytest.raises(SessionBusy), saver.own(SESSION):
        pass
    saver.database.close()


@pytest.mark.parametrize("one_statement", [False, True])
def test_a_statement_has_its_time_through_it(pooled: str, one_statement: bool) -> None:
    """Though the pooler refuses or forgets what a connection sets."""
    database = Database(f"{pooled}?statement_timeout=2")
    with pytest.raises(DatabaseError, match=r"a statement may take 2 s"):
        database.run(lambda connection: connection.execute(text("SELECT pg_sleep(60)")), one_statement=one_statement)
    assert database.run(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
    database.close()


def test_more_threads_than_the_pooler_has_connections_wait_for_their_turn(pooled: str) -> None:
    """Sixteen at once over three connections: a paid request each, and a resume."""

    def one(number: int) -> str:
        with scripted("one") as model:
            app = build(ledger, [specialist("a", priced(model))])
            ask(app, name=f"s-{number}")
            return answer_of(app.invoke(None, session(f"s-{number}")))

    ledger = Ledger(f"{pooled}?pool_size=16")
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(one, range(16))) == ["one"] * 16
    assert ledger.verify()
    ledger.database.close()


def test_the_server_restarts_behind_it() -> None:
    """The pooler stays; the first work after the restart is done, and what was there is there."""
    with servers.postgres() as server, servers.pgbouncer(server.url) as pooled:
        run_session(pooled, "s-1")
        server.restart()
        run_session(pooled, "s-2")
        ledger = Ledger(pooled)
        assert ledger.spend("s-1").spent == ledger.spend("s-2").spent == USD("0.002") * REQUESTS
        assert ledger.verify()
        ledger.database.close()
