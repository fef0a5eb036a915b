"""A foundation model behind HTTP, used like one in this process: batches, retries, a budget.

What can pass (no connection, no answer in time, an overloaded service) is tried again, after
longer and longer pauses; what cannot (a bad image, a wrong token) is refused at once. Every image
sent is counted, retries included, and the budget is never exceeded. An answer by another model
than at the start is refused: half of an edit would belong to one model and half to another.
"""

from __future__ import annotations

import http.client
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workflow_scripts.debiased_noise import wire
from workflow_scripts.debiased_noise.queries import QueryCount, ServiceUnavailable
from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
PASSING = (  # may be over at the next try
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the client waits.

    Attributes:
        timeout_s: for a connection, and for each answer.
        retries: after the first try.
        first_pause_s: before the first retry; doubled each time.
        longest_pause_s: between two tries.
    """

    timeout_s: float = 60.0
    retries: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0

    def pause_s(self, retry: int, asked: str | None) -> float:
        """Return the pause before a retry (from 0), at least what the service asked for."""
        own = self.first_pause_s * 2.0**retry
        wanted = float(asked) if asked and asked.isdigit() else 0.0
        return min(self.longest_pause_s, max(own, wanted))


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpFoundation:
    """The foundation model at a URL.

    Args:
        url: such as `http://127.0.0.1:8008`.
        queries: counts the images sent, and holds the budget.
        token: of the service; None sends none.
        patience: timeouts and retries.
        sleep: waits; tests give their own.

    Attributes:
        about: what `/health` said: checkpoint, `backbone_sha256`, sizes, limits.

    Raises:
        InputError: no such service, a wrong token, or one that does not say what it serves.
        ServiceUnavailable: it does not answer.
    """

    def __init__(
        self,
        url: str,
        queries: QueryCount,
        token: str | None = None,
        patience: Patience | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise refuse("--api", "http://HOST:PORT", url, "write the service's address")
        self.url, self.queries, self._token = url, queries, token
        self._patience, self._sleep = patience or Patience(), sleep
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, parts.port, timeout=self._patience.timeout_s)
        self.about = self._ask_health()
        self.input_size: int = self.about["input_size"]

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings of images, shape (N, 3, S, S) -> (N, F), in order.

        Raises:
            BudgetExhausted: before anything is sent that the budget does not allow.
            ServiceUnavailable: when every retry failed.
            InputError: the service refuses the images, or answers something else than embeddings.
        """
        import torch

        side = self.input_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side) or len(images) == 0:
            found = f"shape {tuple(images.shape)}"
            advice = "store the images in the service's size"
            raise refuse(self.url, f"images of shape (N, 3, {side}, {side})", found, advice)
        parts = torch.split(images.cpu(), self.about["max_images"])
        return torch.cat([self._embed_part(part.numpy()) for part in parts])

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._connection.close()

    def _embed_part(self, images: wire.Floats) -> Tensor:
        import torch

        body = wire.encode(images)
        answer = self._try_often("POST", wire.EMBED_PATH, body, len(images))
        shape = (len(images), self.about["feature_dim"])
        given = answer.headers.get(wire.MODEL_HEADER.lower())
        if given != self.about["backbone_sha256"]:
            expected = f"answers of the model {self.about['backbone_sha256']}"
            advice = "start again, with the model that is served now"
            raise refuse(self.url, expected, str(given), advice)
        return torch.from_numpy(wire.decode(answer.body, f"answer of {self.url}", shape).copy())

    def _ask_health(self) -> dict[str, Any]:
        answer = self._try_often("GET", wire.HEALTH_PATH, None, 0)
        expected = "a JSON object with input_size, feature_dim, max_images and backbone_sha256"
        try:
            about = json.loads(answer.body)
            sizes = [about[name] for name in ("input_size", "feature_dim", "max_images")]
            is_fit = all(type(size) is int and size > 0 for size in sizes)
            is_fit = is_fit and isinstance(about["backbone_sha256"], str)
        except (ValueError, KeyError, TypeError):
            is_fit = False
        if not is_fit:
            found = answer.body[:80].decode(errors="replace")
            advice = "check the address; a service with a token wants it (--token-file)"
            raise refuse(f"{self.url}{wire.HEALTH_PATH}", expected, found, advice)
        content: dict[str, Any] = about
        return content

    def _try_often(self, method: str, path: str, body: bytes | None, n_images: int) -> Answer:
        """Return the first good answer; count the images of every try."""
        told, asked = "", None
        for retry in range(self._patience.retries + 1):
            if retry:
                pause = self._patience.pause_s(retry - 1, asked)
                log.info("%s: %s; again in %.1f s", self.url, told, pause)
                self._sleep(pause)
            if n_images:
                self.queries.spend(n_images)
            try:
                answer = self._once(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                told, asked = f"{type(error).__name__} {error}".strip(), None
                continue
            if answer.status == HTTPStatus.OK:
                return answer
            if answer.status not in PASSING:
                raise self._refusal(answer)
            told, asked = f"status {answer.status}", answer.headers.get("retry-after")
        tries = self._patience.retries + 1
        raise ServiceUnavailable(f"{self.url}{path} failed {tries} times, last: {told}")

    def _once(self, method: str, path: str, body: bytes | None) -> Answer:
        headers = {} if body is None else {"Content-Type": wire.ARRAY_TYPE}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, content)

    def _refusal(self, answer: Answer) -> InputError:
        """Return the service's own words about a bad request."""
        where = f"{self.url} (status {answer.status})"
        try:
            told = [Problem(**one) for one in json.loads(answer.body)["problems"]]
            return InputError(
                Problem(f"{where} {one.where}", one.expected, one.found, one.next_step)
                for one in told
            )
        except (ValueError, KeyError, TypeError):
            found = answer.body[:200].decode(errors="replace") or "nothing"
            return refuse(where, "an answer", found, "look at the service's log")
