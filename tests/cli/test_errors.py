"""What the command line says when something is wrong: one line, the right exit code, never a traceback."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.genie.app import Genie
from bursar.state.errors import SessionBusy
from tests.cli.conftest import HEAVY, Run

Program = Callable[[Sequence[str]], "subprocess.Popen[str]"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["ask", "hi", "--database", "nonsense"], "not a database URL"),
        (["ask", "hi", "--database", "mysql://h/x"], "mysql is not supported"),
        (["ask", "hi", "--database", "sqlite:////nowhere/at/all/genie.db"], "/nowhere/at/all"),
        (["ask", "hi", "--database", "postgresql://u:secret@127.0.0.1:1/x"], "no connection"),
        (["ask", "hi", "--budget", "abc"], "--budget is an amount"),
        (["ask", "hi", "--budget", "-1"], "--budget is an amount"),
        (["ask", "hi", "--budget", "nan"], "--budget is an amount"),
        (["ask", "hi", "--as-of", "2025-13-45"], "--as-of is a day"),
        (["ask", "hi", "--data", "none.csv"], "none.csv cannot be read"),
        (["import", "none.csv"], "none.csv cannot be read"),
        (["import", "binary.csv"], "is no text file"),
        (["import", "empty"], "no file to import in empty"),
        (["import", "binary.csv", "--currency", "dollars"], "no currency code"),
        (["sessions", "--database", "sqlite:///none.db"], "there is no database"),
        (["sessions", "--database", "sqlite:///binary.csv"], "not an SQLite database"),
        (["resume", "s-1"], "there is no database"),
        (["reconcile", "c-1", "abc"], "there is no database"),
    ],
)
def test_wrong_use_is_one_line(run: Run, tmp_path: Path, arguments: list[str], word: str) -> None:
    """Exit code 2 and one line that names what is wrong; a password in a URL is not repeated."""
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "empty").mkdir()
    if arguments[0] == "reconcile":
        arguments = ["reconcile", "c-1", "0.01"]

    ended = run(*arguments)

    assert ended.refused_in_one_line(2, word), ended
    assert "secret" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["resume", "none"], "no session 'none'"),
        (["audit", "none"], "no session none"),
        (["verify", "none"], "no session none"),
        (["reconcile", "none", "0.01"], "call none is not in the books"),
        (["reconcile", "none", "abc"], "not an amount"),
    ],
)
def test_what_is_not_in_the_books_is_told(run: Run, sample: Path, arguments: list[str], word: str) -> None:
    """An unknown session or call ends with code 2 and one line that names it."""
    assert run(*arguments).refused_in_one_line(2, word)


def test_an_unknown_option_is_wrong_use(run: Run) -> None:
    """An option that no command has, and a command that there is not, end with code 2."""
    assert run("ask", "hi", "--nope").code == 2
    assert run("nope").code == 2


def test_ctrl_c_says_how_to_go_on(run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted question ends with code 130 and one line that names the session and the database."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Genie, "ask", interrupt)
    other = sample.rename(sample.with_name("other.db"))

    ended = run("ask", "hi", "--session", "s-1", "--database", f"sqlite:///{other}")

    assert ended.refused_in_one_line(130, f"bursar resume s-1 --database sqlite:///{other}")


def test_a_signal_during_an_import_ends_it_in_one_line(program: Program, tmp_path: Path) -> None:
    """SIGINT to the program itself: code 130, one line, no traceback; nothing is half stored."""
    fifo = tmp_path / "slow.csv"
    os.mkfifo(fifo)
    running = program(["import", str(fifo)])
    writer = os.open(fifo, os.O_WRONLY)  # returns once the program reads the file
    out, err = _interrupted(running)
    os.close(writer)

    assert running.returncode == 130, (out, err)
    assert err.startswith("bursar: interrupted")
    assert "Traceback" not in err


def _interrupted(running: "subprocess.Popen[str]") -> tuple[str, str]:
    """What the program said once it was interrupted, as by a person who presses Ctrl-C again where nothing happens.

    Python does not hear a signal that comes in the instant before a read begins to wait.
    """
    for _ in range(6):
        running.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return running.communicate(timeout=10)
    raise AssertionError("it goes on all the same")


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(program: Program, sample: Path) -> None:
    """`bursar graph | head -1`: the reader goes away, and nothing is complained about."""
    with program(["graph"]) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """Where nothing more can be written, the command says so in one line with code 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "bursar", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
        check=False,
    )

    assert ended.returncode == 2, ended
    assert ended.stderr.startswith("bursar: ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
def test_looking_does_not_load_heavy_libraries(sample: Path, tmp_path: Path) -> None:
    """`--help`, `--version` and `sessions` load no numeric library, no client and no parser."""
    code = (
        "import sys; from bursar.cli.main import main\n"
        "for arguments in (['--help'], ['--version'], ['sessions']):\n"
        "    sys.argv = ['bursar', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines()[-1] == "[]"
    assert "bursar 0." in ended.stdout


def test_a_session_that_runs_elsewhere_is_refused(run: Run, sample: Path) -> None:
    """Exit code 3 and one line that says who owns it."""
    with SQLAlchemySaver("sqlite:///genie.db").own("s-1"):
        busy = run("ask", "And in April?", "--session", "s-1")
    assert busy.refused_in_one_line(3, "session s-1 is running in process"), busy


def test_a_session_is_taken_over_when_that_is_asked_for(
    run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option reaches the graph; without it nothing is taken from anybody."""

    def resume(_: Genie, session: str, *, progress: object, take_over: bool) -> None:
        raise SessionBusy(f"{session} take_over={take_over}")

    monkeypatch.setattr(Genie, "resume", resume)
    assert run("resume", "s-1").refused_in_one_line(3, "s-1 take_over=False")
    assert run("resume", "s-1", "--take-over").refused_in_one_line(3, "s-1 take_over=True")
