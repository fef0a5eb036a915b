"""The embedding service and its client: equal to in-process, bounded, clear, and able to die."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.debiased_noise.conftest import SIDE, Files, running, url_of
from tests.debiased_noise.test_steps import black
from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise import embed, serve, wire
from workflow_scripts.debiased_noise.client import HttpFoundation, Patience
from workflow_scripts.debiased_noise.embeddings import read_embeddings
from workflow_scripts.debiased_noise.noise_edit import read_edit
from workflow_scripts.debiased_noise.queries import (
    BudgetExhausted,
    QueryCount,
    ServiceUnavailable,
)
from workflow_scripts.debiased_noise.service import EmbeddingServer, ServedModel, ServiceLimits
from workflow_scripts.problems import InputError
from workflow_scripts.training.failures import SavedNotFinished

TOKEN = "a-long-enough-token-0123"  # noqa: S105
QUICK = Patience(timeout_s=20.0, retries=3, first_pause_s=0.01, longest_pause_s=0.02)


def images(count: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def client(server: EmbeddingServer, **named: Any) -> HttpFoundation:
    named = {"queries": QueryCount(), "patience": QUICK, "sleep": lambda _: None, **named}
    return HttpFoundation(url_of(server), **named)


def post(
    server: EmbeddingServer, body: bytes, path: str = "/embed", **headers: str
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request("POST", path, body, {"Content-Type": wire.ARRAY_TYPE, **headers})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if answer.status != 200 else {}


def test_embeddings_over_http_are_those_in_process_to_the_last_bit(
    server: EmbeddingServer, served: ServedModel
) -> None:
    queries = QueryCount()
    found = client(server, queries=queries).embed(images(37))  # 16 at once: three requests
    wanted = torch.cat([served.box.embed(part) for part in images(37).split(16)])
    assert torch.equal(found, wanted)
    assert (queries.images, queries.requests) == (37, 3)


def test_health_says_what_is_served(server: EmbeddingServer, served: ServedModel) -> None:
    about = client(server).about
    assert about["backbone_sha256"] == served.about["backbone_sha256"]
    assert (about["input_size"], about["feature_dim"], about["max_images"]) == (SIDE, 64, 16)


def test_many_clients_at_once_get_their_own_answers(
    server: EmbeddingServer, served: ServedModel
) -> None:
    def ask(seed: int) -> tuple[torch.Tensor, QueryCount]:
        queries = QueryCount()
        patience = Patience(timeout_s=60.0, retries=200, first_pause_s=0.01, longest_pause_s=0.05)
        one = client(server, queries=queries, patience=patience, sleep=time.sleep)
        return torch.cat([one.embed(images(4, seed)) for _ in range(3)]), queries

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(24)))
    for seed, (found, _) in enumerate(answers):
        wanted = served.box.embed(images(4, seed))
        assert torch.equal(found, torch.cat([wanted] * 3)), seed
    assert server.images == 24 * 3 * 4
    assert sum(queries.images for _, queries in answers) >= server.images  # retries count too


def test_more_requests_than_may_wait_are_told_to_come_back(served: ServedModel) -> None:
    holding, go_on = threading.Event(), threading.Event()

    class Slow:
        def embed(self, batch: torch.Tensor) -> torch.Tensor:
            holding.set()
            assert go_on.wait(20)
            return served.box.embed(batch)

    slow = ServedModel(Slow(), SIDE, 64, served.about)
    limits = ServiceLimits(max_images=8, max_waiting=1)
    with running(EmbeddingServer(("127.0.0.1", 0), slow, limits, None)) as server:
        body = wire.encode(images(2).numpy())
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(post, server, body)
            assert holding.wait(20)
            status, told = post(server, body)
            assert status == 503
            assert "patience" in told["problems"][0]["expected"]
            go_on.set()
            assert first.result()[0] == 200
        assert client(server).embed(images(2)).shape == (2, 64)


BAD = np.full((2, 3, SIDE, SIDE), 0.5, np.float32)


def poisoned() -> bytes:
    array = BAD.copy()
    array[1, 0, 0, 0] = np.nan
    return wire.encode(array)


def huge_header() -> bytes:
    """Return a small body whose header promises more than any memory holds."""
    content = wire.encode(BAD)
    return content.replace(b"(2, 3, 32, 32)", b"(9999999999, 3, 32, 32)")[:400]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\x89PNG not an array", "no .npy file"),
        (b"", "no .npy file"),
        (wire.encode(BAD)[:-8], "bytes of values instead of"),
        (wire.encode(BAD[:, :, :16]), "float32 of shape (2, 3, 16, 32)"),
        (wire.encode(BAD[:, :1]), "shape (2, 1, 32, 32)"),
        (wire.encode(BAD[:0]), "1 to 16 images a request, not 0"),
        (poisoned(), "values that are not, in rows 1"),
        (huge_header(), "bytes of values instead of"),
    ],
)
def test_bad_images_are_refused_with_the_reason(
    server: EmbeddingServer, body: bytes, told: str
) -> None:
    status, answer = post(server, body)
    assert status == 422
    assert told in json.dumps(answer)
    assert post(server, wire.encode(BAD))[0] == 200  # and the service goes on


def test_other_types_and_pickles_are_refused(server: EmbeddingServer, tmp_path: Path) -> None:
    for name, array in {
        "double": BAD.astype(np.float64)[:1], "bytes": BAD.astype(np.uint8),
        "columns": np.asfortranarray(BAD),
        "objects": np.array([{"a": 1}], dtype=object),
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.npy"
        np.save(path, array, allow_pickle=True)
        status, answer = post(server, path.read_bytes())
        assert status == 422, name
        assert answer["problems"][0]["next_step"]


def test_size_limits_lengths_and_unknown_paths(server: EmbeddingServer) -> None:
    status, answer = post(server, b"x" * (server.max_body + 1))
    assert status == 413
    assert f"at most {server.max_body} bytes" in answer["problems"][0]["expected"]
    assert post(server, b"abc", path="/other")[0] == 404
    address = ("127.0.0.1", server.server_address[1])
    with socket.create_connection(address, timeout=20) as raw:
        raw.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert b" 411 " in raw.recv(1000)
    with socket.create_connection(address, timeout=20) as raw:
        raw.sendall(b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 404 " in raw.recv(1000)


def test_a_client_that_leaves_in_the_middle_does_not_disturb_the_others(
    server: EmbeddingServer,
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20) as raw:
        raw.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nhalf")
    assert client(server).embed(images(2)).shape == (2, 64)


def test_a_token_is_wanted_where_one_is_set_and_the_model_stays_unnamed(
    served: ServedModel,
) -> None:
    limits = ServiceLimits(max_images=16)
    with running(EmbeddingServer(("127.0.0.1", 0), served, limits, TOKEN)) as server:
        assert client(server, token=TOKEN).embed(images(2)).shape == (2, 64)
        status, answer = post(server, wire.encode(BAD), Authorization="Bearer wrong")
        assert status == 401
        assert served.about["backbone_sha256"] not in json.dumps(answer)
        with pytest.raises(InputError, match="--token-file"):
            client(server)  # without a token `/health` says no more than that it runs
        assert server.health(full=False) == {"status": "ok"}


def test_other_machines_are_served_with_a_token_only(tmp_path: Path) -> None:
    serve.require_token_outside("127.0.0.1", None)
    serve.require_token_outside("::1", None)
    serve.require_token_outside("localhost", None)
    serve.require_token_outside("0.0.0.0", TOKEN)  # noqa: S104
    for host in ("0.0.0.0", "::", "192.168.0.5"):  # noqa: S104
        with pytest.raises(InputError, match="--token-file"):
            serve.require_token_outside(host, None)
    with pytest.raises(InputError, match="an IP address"):
        serve.require_token_outside("my.host", None)
    short = tmp_path / "token"
    short.write_text("short\n")
    with pytest.raises(InputError, match="at least 16"):
        serve.read_token(short)
    short.write_text(TOKEN + "\n")
    assert serve.read_token(short) == TOKEN


def test_passing_failures_are_tried_again_with_growing_pauses(served: ServedModel) -> None:
    pauses: list[float] = []
    with running(EmbeddingServer(("127.0.0.1", 0), served, ServiceLimits(), None)) as server:
        queries = QueryCount()
        patience = Patience(timeout_s=5.0, retries=3, first_pause_s=0.5, longest_pause_s=1.5)
        one = client(server, queries=queries, patience=patience, sleep=pauses.append)
    one.close()
    with pytest.raises(ServiceUnavailable, match="failed 4 times"):
        one.embed(images(2))
    assert pauses == [0.5, 1.0, 1.5]
    assert queries.images == 4 * 2  # each try is counted: a service may bill it


def test_an_answer_that_takes_too_long_is_tried_again_and_given_up(served: ServedModel) -> None:
    go_on = threading.Event()

    class Stuck:
        def embed(self, batch: torch.Tensor) -> torch.Tensor:
            assert go_on.wait(20)
            return served.box.embed(batch)

    stuck = ServedModel(Stuck(), SIDE, 64, served.about)
    with running(EmbeddingServer(("127.0.0.1", 0), stuck, ServiceLimits(), None)) as server:
        queries = QueryCount()
        patience = Patience(timeout_s=0.3, retries=1, first_pause_s=0.01)
        one = client(server, queries=queries, patience=patience)
        with pytest.raises(ServiceUnavailable, match="failed 2 times, last: TimeoutError"):
            one.embed(images(3))
        assert queries.images == 6  # the service may have worked on both
        go_on.set()


def test_more_connections_than_allowed_are_closed_and_later_served(served: ServedModel) -> None:
    limits = ServiceLimits(max_images=8, max_connections=1)
    with running(EmbeddingServer(("127.0.0.1", 0), served, limits, None)) as server:
        address = ("127.0.0.1", server.server_address[1])
        with socket.create_connection(address, timeout=20) as first:
            first.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in first.recv(1000)  # it is open, and stays so
            with pytest.raises(ServiceUnavailable, match="failed 4 times"):
                client(server)
        patience = Patience(timeout_s=20.0, retries=200, first_pause_s=0.01, longest_pause_s=0.05)
        one = client(server, patience=patience, sleep=time.sleep)
        assert one.embed(images(2)).shape == (2, 64)
        one.close()


def test_a_service_asks_for_a_longer_pause() -> None:
    assert Patience().pause_s(0, "7") == 7.0
    assert Patience().pause_s(3, None) == 4.0
    assert Patience().pause_s(9, "999") == 30.0


def test_the_budget_is_never_exceeded(server: EmbeddingServer) -> None:
    queries = QueryCount(budget=20)
    one = client(server, queries=queries)
    one.embed(images(16))
    with pytest.raises(BudgetExhausted, match="16 are spent and the next request needs 5"):
        one.embed(images(5))
    assert queries.images == 16
    assert server.images == 16


def test_another_model_in_the_middle_is_refused(server: EmbeddingServer) -> None:
    one = client(server)
    one.about = {**one.about, "backbone_sha256": "0" * 64}
    with pytest.raises(InputError, match="answers of the model 000"):
        one.embed(images(2))


def test_images_of_another_size_are_refused_before_they_are_sent(server: EmbeddingServer) -> None:
    queries = QueryCount()
    with pytest.raises(InputError, match="images of shape"):
        client(server, queries=queries).embed(torch.zeros(2, 3, 16, 16))
    assert queries.images == 0
    with pytest.raises(InputError, match="http://HOST:PORT"):
        HttpFoundation("ftp://somewhere", queries)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_an_edit_trained_through_the_service_is_the_one_trained_in_process(
    files: Files, server: EmbeddingServer, tmp_path: Path, form: str
) -> None:
    inside = read_edit(black(files, tmp_path / "in", form, *files.model, "--batch-size", "16"))
    outside = read_edit(black(files, tmp_path / "out", form, "--api", url_of(server)))
    np.testing.assert_array_equal(outside[0], inside[0])
    assert outside[1]["course"] == inside[1]["course"]
    assert outside[1]["image_queries"] == inside[1]["image_queries"] == server.images
    assert outside[1]["through"] == "service"


def test_a_store_is_embedded_through_the_service(
    files: Files, server: EmbeddingServer, tmp_path: Path
) -> None:
    out = tmp_path / "embeddings.npz"
    words = ["--api", url_of(server), *files.images, "--card", files.path("card.json")]
    embed.main([*words, "--out", str(out), "--batch-size", "16"])
    found, inside = read_embeddings(out), read_embeddings(Path(files.path("embeddings.npz")))
    np.testing.assert_allclose(found.values, inside.values, atol=1e-6)
    same = ("backbone_sha256", "dataset", "phantom", "checkpoint")
    assert all(found.provenance[key] == inside.provenance[key] for key in same)
    assert found.provenance["queries"] == len(found.image_id)
    wasteful = [*words, "--out", str(tmp_path / "no.npz"), "--query-budget", "10"]
    assert run(embed.main, wasteful) == 1


@contextmanager
def service_process(files: Files, folder: Path, port: int) -> Iterator[BaseProcess]:
    """Start the service in a process of its own (forked: torch is imported), ready to answer."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    words = [*files.model, "--port", str(port), "--max-images", "16", "--ready-file", str(ready)]
    process = get_context("fork").Process(target=serve.main, args=(words,))
    process.start()
    try:
        deadline = time.monotonic() + 60
        while not ready.is_file():
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def test_a_search_survives_the_death_of_its_service(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_edit(black(files, tmp_path / "whole", "paper", *files.model, "--batch-size", "16"))
    port = free_port()
    api = ("--api", f"http://127.0.0.1:{port}", "--retries", "1", "--timeout", "20")
    killed, answers = tmp_path / "killed", [0]
    with service_process(files, tmp_path, port) as service:
        real = HttpFoundation._once

        def once(one: HttpFoundation, *arguments: Any) -> Any:
            answers[0] += 1
            if answers[0] == 20:  # in the middle of the second update of four
                service.kill()
                service.join()
            return real(one, *arguments)

        monkeypatch.setattr(HttpFoundation, "_once", once)
        with pytest.raises(SavedNotFinished, match="failed 2 times"):
            black(files, killed, "paper", *api)
    card = json.loads(next((killed / "state").glob("state-*.json")).read_text())
    assert card["step"] == 1
    monkeypatch.setattr(HttpFoundation, "_once", real)
    with service_process(files, tmp_path, port) as service:
        found = read_edit(black(files, killed, "paper", *api))
        service.terminate()  # SIGTERM
        service.join(20)
        assert service.exitcode == 0  # and it ends by itself when asked
    np.testing.assert_array_equal(found[0], whole[0])
    assert found[1]["course"] == whole[1]["course"]
    assert found[1]["image_queries"] > whole[1]["image_queries"]  # the lost update was paid for


@pytest.mark.parametrize("step", ["embed", "serve"])
def test_a_gpu_rounds_no_edited_pixels(
    files: Files, server: EmbeddingServer, tmp_path: Path, step: str
) -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    if step == "embed":
        words = [*files.model, *files.images, "--card", files.path("card.json")]
        embed.main([*words, "--out", str(tmp_path / "embeddings.npz")])
    else:
        port = str(server.server_address[1])  # taken: it ends after the model is loaded
        assert run(serve.main, [*files.model, "--port", port]) == 1
    assert not torch.backends.cudnn.allow_tf32


def test_service_refuses_an_address_that_is_taken(
    files: Files, server: EmbeddingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(server.server_address[1])
    assert run(serve.main, [*files.model, "--port", port]) == 1
    assert "an address to listen on" in capsys.readouterr().err
    assert run(serve.main, [*files.model, "--host", "0.0.0.0"]) == 1  # noqa: S104


def test_health_without_what_a_client_needs_is_refused() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever, daemon=True)
        thread.start()
        with pytest.raises(InputError, match="a JSON object with input_size"):
            HttpFoundation(f"http://127.0.0.1:{other.server_address[1]}", QueryCount())
        other.shutdown()
