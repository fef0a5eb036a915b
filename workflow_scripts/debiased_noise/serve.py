"""Serve a frozen backbone as an embedding API.

    python -m workflow_scripts.debiased_noise.serve --backbone backbone.safetensors \
        --certificate certificate.json --port 8008

On this machine only, unless told otherwise; on another address it wants a token, and stands
behind a proxy that speaks TLS. What a request looks like: docs/how-to/fairer-embedding-api.md.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.files import write_json
from workflow_scripts.problems import refuse
from workflow_scripts.speed import exact_arithmetic, set_threads, tune_allocator

log = logging.getLogger(__name__)
SHORTEST_TOKEN = 16  # characters, ours


def read_token(path: Path | None) -> str | None:
    """Return the token in a file, without white space around it; None without a file."""
    if path is None:
        return None
    if not path.is_file():
        raise refuse(str(path), "a file with a token", "none", "write one, readable by you alone")
    token = path.read_text(encoding="utf-8").strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or len(token.split()) != 1:
        expected = f"one word of at least {SHORTEST_TOKEN} ASCII characters"
        raise refuse(str(path), expected, f"{len(token)} characters", "make a random one")
    return token


def require_token_outside(host: str, token: str | None) -> None:
    """Refuse to listen to other machines without a token."""
    if host == "localhost":
        return
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise refuse("--host", "an IP address, or localhost", host, "write 127.0.0.1") from error
    if not is_local and token is None:
        expected = "--token-file, to listen to other machines"
        raise refuse(f"--host {host}", expected, "none", "give one, or leave --host out")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the service."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--certificate", type=Path, required=True, help="of the backbone, .json")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument("--port", type=int, default=8008, help="0 takes a free one")
    parser.add_argument("--token-file", type=Path, help="file with the token that clients give")
    parser.add_argument("--max-images", type=int, default=64, help="of one request")
    parser.add_argument("--max-waiting", type=int, default=8, help="requests in memory at once")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: serve from a GPU")
    parser.add_argument("--ready-file", type=Path, help="JSON with the address, once it listens")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    given = build_parser().parse_args(arguments)
    token = read_token(given.token_file)
    require_token_outside(given.host, token)
    tune_allocator()

    from workflow_scripts.debiased_noise.foundation import ABOUT, load_foundation
    from workflow_scripts.debiased_noise.service import (
        EmbeddingServer,
        ServedModel,
        ServiceLimits,
    )

    exact_arithmetic()
    set_threads(given.threads)
    device = "cuda:0" if given.gpus else "cpu"
    model, certificate = load_foundation(given.backbone, given.certificate, device)
    about = {name: certificate[name] for name in (*ABOUT, "architecture")}
    served = ServedModel(model, model.input_size, certificate["feature_dim"], about)
    limits = ServiceLimits(max_images=given.max_images, max_waiting=given.max_waiting)
    try:
        server = EmbeddingServer((given.host, given.port), served, limits, token)
    except OSError as error:
        where = f"{given.host} port {given.port}"
        raise refuse(where, "an address to listen on", str(error), "choose another") from error
    host, port = server.server_address[:2]
    name = f"[{host!s}]" if ":" in str(host) else str(host)
    url = f"http://{name}:{port}"
    stop = threading.Thread(target=server.shutdown, daemon=True)

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        stop.start()

    signal.signal(signal.SIGTERM, end)
    log.info("%s answers at %s", certificate["checkpoint"], url)
    if given.ready_file:
        write_json(given.ready_file, {"url": url})
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.info("stopped")


if __name__ == "__main__":
    sys.exit(run(main))
