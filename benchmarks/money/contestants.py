"""The contestants, and what the peers need: an environment of their own under `build/peers`, and a Redis server."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.money.contest import ROOT, Contestant

PINS = Path(__file__).with_name("peers.txt")
PEERS = ROOT / "build" / "peers"
PEERS_PYTHON = str(PEERS / "bin" / "python")
REDIS_PATH = "/usr/bin:/usr/local/bin:/usr/sbin"

BURSAR = Contestant(
    name="bursar",
    python=sys.executable,
    module="benchmarks.money.with_bursar",
    limit="`Budget`",
)
CONTESTANTS = (
    BURSAR,
    Contestant(
        name="langchain",
        python=PEERS_PYTHON,
        module="benchmarks.money.peers.with_langchain",
        limit="`ModelCallLimitMiddleware` and `ToolCallLimitMiddleware` on run and thread",
    ),
    Contestant(
        name="pydantic-ai",
        python=PEERS_PYTHON,
        module="benchmarks.money.peers.with_pydantic_ai",
        limit="`UsageLimits(cost_limit=…)` and the harness's `SpendLimits` in Redis",
    ),
    Contestant(
        name="litellm",
        python=PEERS_PYTHON,
        module="benchmarks.money.peers.with_litellm",
        limit="`BudgetManager`, asked before each call, and `litellm.max_budget`",
    ),
    Contestant(
        name="openai-agents",
        python=PEERS_PYTHON,
        module="benchmarks.money.peers.with_openai_agents",
        limit="`max_turns`",
    ),
)


def install_peers() -> None:
    """Make the peers' environment under `build/peers`, unless it has what `peers.txt` pins. Needs the package index."""
    made = PEERS / PINS.name
    if made.exists() and made.read_text() == PINS.read_text():
        return
    uv = str(ROOT / ".uv" / "bin" / "uv")
    print(f"Installing the peers in {PEERS.relative_to(ROOT)}", file=sys.stderr)
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PEERS)], check=True)
    subprocess.run([uv, "pip", "sync", "--quiet", "--python", PEERS_PYTHON, str(PINS)], check=True)
    made.write_text(PINS.read_text())


@contextmanager
def redis() -> Generator[str]:
    """Run a Redis server for the block, and tell the contestants its URL; yield a note if none is installed.

    pydantic-ai's harness keeps budgets in Redis. Without it, they are kept in each process's memory.
    """
    program = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:{REDIS_PATH}")
    if program is None:
        yield "No redis-server is installed: pydantic-ai keeps its budgets in each process's memory."
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([program, *settings], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        if not any("Ready to accept connections" in line for line in server.stdout):
            raise RuntimeError("redis-server did not start")
        os.environ["MONEY_REDIS"] = f"redis://127.0.0.1:{port}"
        yield ""
    finally:
        server.terminate()
        server.communicate()
