"""An outside world on loopback that keeps its own books: what was paid and refunded, under which key."""

import json
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class World:
    """Pays as often as it is told, once a key where it is asked to `honour` keys; refunds a payment once."""

    def __init__(self) -> None:
        self.paid: Counter[str] = Counter()
        self.refunded: Counter[str] = Counter()
        self.order: list[str] = []
        self.lock = threading.Lock()
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps(world.answer(self.path.strip("/"), asked)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Do it, and say what is on the books now."""
        name, key = f"{asked['name']}", str(asked["key"])
        with self.lock:
            if what == "pay" and not (asked.get("honour") and self.paid[key]):
                self.paid[key] += 1
                self.order.append(f"paid {name}")
            elif what == "refund" and self.paid[key] > self.refunded[key]:
                self.refunded[key] += 1
                self.order.append(f"refunded {name}")
            return {"paid": self.paid[key], "name": name}

    @property
    def net(self) -> int:
        """Payments that stand."""
        with self.lock:
            return self.paid.total() - self.refunded.total()

    def close(self) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()


def tell(url: str, what: str, **asked: Any) -> dict[str, Any]:
    """Ask the world for something."""
    request = urllib.request.Request(f"{url}/{what}", data=json.dumps(asked).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)
