"""Servers on loopback for a single test: a PostgreSQL that the test may restart, and a PgBouncer before a server."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

START_SECONDS = 30


@dataclass
class Postgres:
    """A PostgreSQL cluster in a folder of its own. `url` names its database `postgres`, with a superuser."""

    folder: Path
    port: int
    settings: Sequence[str] = field(default=())

    @cached_property
    def url(self) -> str:
        """The URL of the database `postgres`, in the form that Bursar takes."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make the cluster and start the server."""
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.start()

    def start(self) -> None:
        """Start the server, and return once it answers."""
        named = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self.folder}",
            "fsync=off",
        )
        options = " ".join(f"-c {setting}" for setting in (*named, *self.settings))
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop the server as a crash would: clients get no notice, and nothing is flushed."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")

    def restart(self) -> None:
        """Stop the server as a crash would, and start it again."""
        self.stop()
        self.start()

    def execute(self, statement: str) -> None:
        """Run an SQL statement on a new connection, which is none of Bursar's."""
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(statement.encode())

    @property
    def processes(self) -> list[int]:
        """The server's process ids; the first is the process that listens."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        threads = Path(f"/proc/{first}/task").iterdir()
        return [first, *(int(child) for thread in threads for child in (thread / "children").read_text().split())]

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        found = _program(program)
        assert found is not None
        done = subprocess.run(
            [str(found), *arguments],
            user=owner(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=(log := (self.folder / "commands").open("a")),
            stderr=subprocess.STDOUT,
            timeout=START_SECONDS,
            check=False,
        )
        log.close()  # a file, not a pipe: the server inherits the output and keeps it open
        assert done.returncode == 0, (self.folder / "commands").read_text()


def owner() -> str | None:
    """Return the user that servers run as, or None if they run as the present user. Servers refuse to run as root."""
    if os.getuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _program(name: str) -> Path | None:
    """Return the path of a PostgreSQL program, or None if it is not installed. Debian's are not on the PATH."""
    if found := shutil.which(name):
        return Path(found)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda file: int(file.parts[4]))
    return versions[-1] if versions else None


@contextmanager
def folder() -> Generator[Path]:
    """Yield a new folder that the servers' user may use: pytest's folders are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="bursar-") as made:
        if user := owner():
            shutil.chown(made, user)
        yield Path(made)


def free_port() -> int:
    """Return a port on which nothing listens."""
    # Race: another process may take the port before the caller's server does. Then that server fails to start, and so
    # does the test.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def postgres(*settings: str) -> Generator[Postgres]:
    """Run a PostgreSQL server for the block. Skip the test if the server's programs are not installed."""
    if _program("initdb") is None:
        pytest.skip("no initdb: PostgreSQL's server programs are not installed")
    with folder() as made:
        server = Postgres(made, free_port(), settings)
        server.make()
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop()


@contextmanager
def frozen(server: Postgres, *, clients_only: bool = False) -> Generator[None]:
    """Freeze the server for the block: it does nothing, but its host still acknowledges the packets that it gets.

    With `clients_only`, freeze only the processes that serve a client now, so that new clients are served.
    """
    processes = server.processes
    if clients_only:
        processes = [one for one in processes[1:] if b"127.0.0.1" in Path(f"/proc/{one}/cmdline").read_bytes()]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process, signal.SIGCONT)


@contextmanager
def pgbouncer(url: str, *, connections: int = 3) -> Generator[str]:
    """Run a PgBouncer for the block, in transaction mode before the server at `url`, and yield the PgBouncer's URL.

    The PgBouncer has at most `connections` connections to the server. Skip the test if it is not installed.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer: it is not installed")
    server = make_url(url)
    port = free_port()
    with folder() as made:
        (made / "users").write_text(f'"{server.username}" "{server.password or ""}"\n')
        (made / "config").write_text(
            "[databases]\n"
            f"* = host={server.host} port={server.port or 5432}\n"
            "[pgbouncer]\n"
            "pool_mode = transaction\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {made / 'users'}\n"
            f"logfile = {made / 'log'}\n"
            f"default_pool_size = {connections}\nmax_client_conn = 200\n"
        )
        running = subprocess.Popen(
            [program, "-q", str(made / "config")], user=owner(), cwd="/", stdin=subprocess.DEVNULL
        )
        try:
            _wait_for(port, running, made / "log")
            yield server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        finally:
            running.terminate()
            running.wait(START_SECONDS)


def _wait_for(port: int, running: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert running.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)  # between two polls, within the deadline
        else:
            return
    raise AssertionError(f"nothing listens on port {port} within {START_SECONDS} s")
