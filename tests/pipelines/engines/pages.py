"""Pages of an engine, as a stand-in answers them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def served(answers: Mapping[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Path -> its JSON; gives the port, and a list of the paths that something is told by PATCH."""
    told: list[str] = []

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_PATCH(self) -> None:
            told.append(self.path)
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port, told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
