"""A web server on this machine that misbehaves on request, for the download tests."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Server(ThreadingHTTPServer):
    """Serves `content` at every path; the path says how."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.asked: Counter[str] = Counter()  # requests by path
        self.ranges: list[str] = []  # Range headers that came

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    """One behaviour a path."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        behaviour = self.path.strip("/").split("/")[0].split("?")[0]
        self.server.asked[behaviour] += 1
        if "Range" in self.headers:
            self.server.ranges.append(self.headers["Range"])
        getattr(self, f"answer_{behaviour}")(self.server.asked[behaviour])
        self.close_connection = True

    def send(
        self, body: bytes, status: int = 200, length: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def rest(self) -> int:
        """Return where the wanted bytes begin, if the client's version is ours."""
        wanted = self.headers.get("Range")
        return int(wanted[6:-1]) if wanted and self.headers.get("If-Range") == '"v1"' else 0

    def send_part(self, start: int, stop: int | None = None) -> None:
        body, whole = self.server.content[start:stop], len(self.server.content)
        if start:
            span = f"bytes {start}-{whole - 1}/{whole}"
            self.send(body, 206, whole - start, ETag='"v1"', Content_Range=span)
        else:
            self.send(body, 200, whole, ETag='"v1"')

    def answer_good(self, _: int) -> None:
        self.send_part(self.rest())

    def answer_drops(self, times: int) -> None:
        start = self.rest()
        stop = None if times > 3 else start + len(self.server.content) // 5
        self.send_part(start, stop)

    def answer_drops_without_range(self, times: int) -> None:
        content = self.server.content
        self.send(content if times > 1 else content[: len(content) // 2], 200, len(content))

    def answer_always_drops(self, _: int) -> None:
        self.send(self.server.content[:100], 200, len(self.server.content))

    def answer_changed_meanwhile(self, times: int) -> None:
        """First half of another version, then only the right one."""
        content = self.server.content
        if times == 1:
            self.send(b"x" * (len(content) // 2), 200, len(content), ETag='"v0"')
        else:
            self.send_part(self.rest())

    def answer_short_length(self, _: int) -> None:
        self.send(self.server.content[:-100])

    def answer_no_length(self, _: int) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.content)

    def answer_chunked(self, times: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        content = self.server.content if times > 1 else self.server.content[:1000]
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        if times > 1:
            self.wfile.write(b"0\r\n\r\n")

    def answer_login(self, _: int) -> None:
        self.send(b"", 302, Location=self.server.address("page"))

    def answer_page(self, _: int) -> None:
        self.send(PAGE, Content_Type="text/html; charset=utf-8")

    def answer_page_as_binary(self, _: int) -> None:
        self.send(PAGE, Content_Type="application/octet-stream")

    def answer_missing(self, _: int) -> None:
        self.send(b"not here", 404)

    def answer_busy(self, times: int) -> None:
        if times < 3:
            self.send(b"busy", 500)
        else:
            self.send_part(self.rest())

    def answer_silent(self, times: int) -> None:
        if times == 1:
            self.send(self.server.content[:1000], 200, len(self.server.content), ETag='"v1"')
            time.sleep(0.6)
        else:
            self.send_part(self.rest())

    def answer_other_bytes(self, _: int) -> None:
        self.send(b"z" * len(self.server.content))

    def answer_google(self, times: int) -> None:
        content = self.server.content
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()  # noqa: S324
        body = content if times > 1 else content[:-1] + b"?"
        self.send(body, x_goog_hash=f"crc32c=AAAAAA==,md5={md5}")


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """Run a server for the duration of a block."""
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
