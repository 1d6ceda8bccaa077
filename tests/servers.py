"""A small web server on this computer, in the place of those that offer weights."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A running server.

    Attributes
    ----------
    address
        ``http://127.0.0.1:port``.
    files
        Path -> content; may be changed while it runs.
    announced
        Path -> SHA-256 that is announced in the place of the true one.
    cut_off
        Paths of which only the first half is sent.
    asked
        Every request, such as "GET /a".
    """

    address: str
    files: dict[str, bytes]
    announced: dict[str, str] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Served]:
    """Serve files until the block is left, with the headers by which the Hugging Face hub tells what it has."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            served.asked.append(f"{self.command} {self.path}")
            content = served.files.get(self.path)
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            digest = served.announced.get(self.path, hashlib.sha256(content).hexdigest())
            self.send_response(200)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if self.path in served.cut_off else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}", dict(files))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
