"""Python imports this at its start where this folder is on PYTHONPATH: no network but loopback."""

from __future__ import annotations

import socket
import sys
from typing import Any

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104 (allowed, not bound)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop a connection or a name look-up that would leave this machine."""
    if event == "socket.connect" and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
        host = str(arguments[1][0])
    elif event == "socket.getaddrinfo":
        host = str(arguments[0] or "localhost")
    else:
        return
    if not host.startswith(LOOPBACK) and host != socket.gethostname():
        raise ConnectionRefusedError(f"this step may not use the network, it asked for {host}")


sys.addaudithook(refuse)
