"""The embedding service: a frozen backbone behind `POST /embed`, and nothing else of it.

A request carries images as a .npy array, float32, shape (N, 3, S, S), pixels in [0, 1] plus
whatever edit the client has added; the answer is the embeddings, shape (N, F). `GET /health`
says which model answers and what it takes. Everything else is an error with a reason (JSON).

Python's own HTTP server is enough: forward passes take their turn, a bounded number of requests
waits, more are told to come back (503, Retry-After). Started by `debiased_noise.serve`.
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from workflow_scripts.debiased_noise import wire
from workflow_scripts.problems import InputError

if TYPE_CHECKING:
    from workflow_scripts.debiased_noise.queries import BlackBox

log = logging.getLogger(__name__)
DISCARD = 1 << 16  # bytes read at once from a request that is refused
SLOW_S = 30.0  # a client that sends nothing for so long is dropped


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What the service accepts.

    Attributes:
        max_images: of one request.
        max_waiting: requests whose images are in memory at once, the one being computed included.
        max_connections: open connections.
    """

    max_images: int = 64
    max_waiting: int = 8
    max_connections: int = 64


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model and what the service says of it.

    Attributes:
        box: embeds images.
        input_size: pixels a side.
        feature_dim: of an embedding.
        about: more for `/health`: checkpoint, architecture, `backbone_sha256`, phantom.
    """

    box: BlackBox
    input_size: int
    feature_dim: int
    about: dict[str, Any]


class EmbeddingServer(ThreadingHTTPServer):
    """Serves one model.

    Args:
        address: host and port; port 0 takes a free one.
        model: what answers.
        limits: what is accepted.
        token: wanted as `Authorization: Bearer ...`; None asks for none.

    Attributes:
        images: embedded so far.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], model: ServedModel, limits: ServiceLimits, token: str | None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.model, self.limits, self.token = model, limits, token
        self.images = 0
        self.waiting = threading.BoundedSemaphore(limits.max_waiting)
        self.turn = threading.Lock()
        self._connections = threading.BoundedSemaphore(limits.max_connections)
        super().__init__(address, EmbeddingHandler)

    @property
    def max_body(self) -> int:
        """The largest request, bytes."""
        side = self.model.input_size
        return wire.HEADER_BYTES + 4 * 3 * side * side * self.limits.max_images

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Open a thread for a connection, or close it when there are too many."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Log what a connection ended with; a client that left is no error."""
        log.info("connection from %s ended early", client_address[0], exc_info=True)

    def health(self, full: bool) -> dict[str, Any]:
        """Return what `/health` answers; a caller without the token learns only that it runs."""
        if not full:
            return {"status": "ok"}
        return {
            "status": "ok",
            **self.model.about,
            "input_size": self.model.input_size,
            "feature_dim": self.model.feature_dim,
            "max_images": self.limits.max_images,
            "max_body_bytes": self.max_body,
            "images_embedded": self.images,
        }


class EmbeddingHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: EmbeddingServer
    protocol_version = "HTTP/1.1"  # connections stay open between requests
    timeout = SLOW_S
    server_version = "steadfast-embedding"

    def do_GET(self) -> None:
        """Answer `/health`."""
        if self.path != wire.HEALTH_PATH:
            self._refuse(HTTPStatus.NOT_FOUND, f"GET {wire.HEALTH_PATH} or POST {wire.EMBED_PATH}")
            return
        content = self.server.health(full=self._is_allowed())
        self._answer(HTTPStatus.OK, json.dumps(content).encode(), "application/json")

    def do_POST(self) -> None:
        """Answer `/embed`."""
        length = self._length()
        if length is None:
            return
        if not self._is_allowed():
            self._discard(length)
            self._refuse(HTTPStatus.UNAUTHORIZED, "the service's token: Authorization: Bearer ...")
        elif self.path != wire.EMBED_PATH:
            self._discard(length)
            self._refuse(HTTPStatus.NOT_FOUND, f"POST {wire.EMBED_PATH}")
        elif not self.server.waiting.acquire(blocking=False):
            self._discard(length)
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "a little patience: too many requests")
        else:
            try:
                self._embed(length)
            finally:
                self.server.waiting.release()

    def _embed(self, length: int) -> None:
        """Read, judge and embed the images of one request."""
        import torch

        body = self.rfile.read(length)
        if len(body) != length:
            self.close_connection = True  # the client left in the middle
            return
        side = self.server.model.input_size
        try:
            images = wire.decode(body, "request body", (None, 3, side, side))
        except InputError as error:
            self._problems(HTTPStatus.UNPROCESSABLE_ENTITY, wire.problems_as_json(error))
            return
        if not 0 < len(images) <= self.server.limits.max_images:
            self._refuse(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"1 to {self.server.limits.max_images} images a request, not {len(images)}",
            )
            return
        with self.server.turn:
            tensor = torch.from_numpy(images.copy())
            embeddings = self.server.model.box.embed(tensor).cpu().numpy()
            self.server.images += len(images)
        self._answer(HTTPStatus.OK, wire.encode(embeddings), wire.ARRAY_TYPE)

    def _length(self) -> int | None:
        """Return the size of the body, or refuse the request."""
        text = self.headers.get("Content-Length", "")
        if not text.isdigit() or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "a Content-Length, no chunks")
            return None
        if int(text) > self.server.max_body:
            self.close_connection = True
            limit = self.server.max_body
            self._discard(min(int(text), 2 * limit))  # so that the client reads the answer
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {limit} bytes")
            return None
        return int(text)

    def _is_allowed(self) -> bool:
        if self.server.token is None:
            return True
        given = self.headers.get("Authorization", "")
        wanted = f"Bearer {self.server.token}"
        return hmac.compare_digest(given.encode(), wanted.encode())

    def _discard(self, length: int) -> None:
        """Read a body that nobody wants; a client that is still sending hears no answer."""
        while length > 0:
            part = self.rfile.read(min(length, DISCARD))
            if not part:
                break
            length -= len(part)

    def _refuse(self, status: HTTPStatus, expected: str) -> None:
        problem = {"where": f"{self.command} {self.path}", "expected": expected}
        problem |= {"found": status.phrase, "next_step": "change the request"}
        self._problems(status, {"problems": [problem]})

    def _problems(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self._is_allowed():  # which model this is concerns its users only
            digest = self.server.model.about.get("backbone_sha256", "")
            self.send_header(wire.MODEL_HEADER, digest)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "1")
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *words: object) -> None:
        """Log a request on the service's own logger."""
        log.debug("%s %s", self.address_string(), format % words)
