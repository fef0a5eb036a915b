"""Run a step in a child forked from a process that has the libraries imported already.

Importing torch and torchvision costs about 8 CPU-seconds; forking costs milliseconds. The command

    python -m workflow_scripts.warm -m workflow_scripts.ssl_transfer.few_shot ARGUMENTS

does what `python -m workflow_scripts.ssl_transfer.few_shot ARGUMENTS` does: same folder, same
environment, same output, same exit status. The first call starts the warm process, which imports
libraries only (never a module of ours, so edited code is always read afresh) and goes away when
it has had nothing to do for a while. Used by the demo; a SLURM job starts afresh.

Snakemake's benchmark files then time the step but see only the small caller, not the child's CPU
and memory: the child's own figures are the last line of the step's log.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import hashlib
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "scipy.optimize",
    "sklearn.linear_model",
    "matplotlib.pyplot",
    "PIL.Image",
    "tqdm",
    "torch",
    "torchvision",
    "timm",
    "lightning.fabric",
)
IDLE_S = 30.0  # the warm process ends after this long without a step
START_S = 180.0  # a busy machine may need this long for the imports
KILL_AFTER_S = 10.0  # a step whose caller died gets SIGTERM, then SIGKILL
MAX_REQUEST = 1 << 22  # bytes of arguments and environment


def main(arguments: list[str]) -> int:
    """Serve, or run one step through the warm process; return its exit status."""
    if arguments[:1] == ["--serve"] and len(arguments) == 2:
        serve(Path(arguments[1]))
        return 0
    if arguments[:1] != ["-m"] or len(arguments) < 2:
        sys.stderr.write("usage: python -m workflow_scripts.warm -m MODULE [ARGUMENT ...]\n")
        return 2
    with connect(socket_path()) as connection:
        return ask(connection, arguments[1:])


def socket_path() -> Path:
    """Return the socket's path: one for each user, Python and working folder."""
    identity = f"{os.getuid()}\0{sys.executable}\0{Path.cwd()}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"steadfast-warm-{name}.sock"


def connect(path: Path) -> socket.socket:
    """Return a connection to the warm process; start it when there is none."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one caller starts it, the others wait here
        connection = _try_connect(path)
        if connection is not None:
            return connection
        command = [sys.executable, "-m", "workflow_scripts.warm", "--serve", str(path)]
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and server.poll() is None:
            connection = _try_connect(path)
            if connection is not None:
                return connection
            time.sleep(0.05)
    raise RuntimeError(f"the warm process did not start within {START_S:.0f} s")


def _try_connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def ask(connection: socket.socket, arguments: list[str]) -> int:
    """Send one step with our standard streams; wait for its exit status."""
    request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    message = json.dumps(request).encode()
    socket.send_fds(connection, [len(message).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(message)
    answer = connection.recv(64)
    if not answer:
        sys.stderr.write("the warm process ended before the step did\n")
        return 1
    status = int(answer)
    if status < 0:  # die the same death, so that Snakemake sees the signal
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def serve(path: Path) -> None:
    """Import the libraries, then fork a minder for each step until idle."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # keep the imported objects in memory pages that the children share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # minders need no waiting for
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        old_mask = os.umask(0o077)  # only this user may send steps
        listener.bind(str(path))
        os.umask(old_mask)
        listener.listen(64)
        minders: set[int] = set()
        while True:
            ready, _, _ = select.select([listener], [], [], IDLE_S)
            minders = {pid for pid in minders if Path(f"/proc/{pid}").exists()}
            if ready:
                connection, _ = listener.accept()
                minders.add(_fork_minder(listener, connection))
            elif not minders:
                break
        path.unlink(missing_ok=True)


def _fork_minder(listener: socket.socket, connection: socket.socket) -> int:
    pid = os.fork()
    if not pid:
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _mind(connection)
    connection.close()
    return pid


def _mind(connection: socket.socket) -> NoReturn:
    """Fork the step, wait for it or for its caller's death, send the exit status."""
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size = int.from_bytes(head, "big")
    if len(streams) != 3 or not 0 < size <= MAX_REQUEST:
        os._exit(1)
    message = b""
    while len(message) < size:
        part = connection.recv(size - len(message))
        if not part:
            os._exit(1)
        message += part
    pid = os.fork()
    if not pid:
        connection.close()
        _work(json.loads(message), streams)
    step = os.pidfd_open(pid)
    ready, _, _ = select.select([step, connection.fileno()], [], [])
    if step not in ready:  # the caller is gone
        os.killpg(pid, signal.SIGTERM)
        if not select.select([step], [], [], KILL_AFTER_S)[0]:
            os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


class StepMain(types.ModuleType):
    """Finds what a pool's processes send back: they call the step's own module `__mp_main__`."""

    def __getattr__(self, name: str) -> object:
        return getattr(sys.modules["__main__"], name)


def _work(request: dict[str, object], streams: list[int]) -> NoReturn:
    """Become the step: its streams, folder and environment, then its module."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    arguments = [str(word) for word in request["arguments"]]  # type: ignore[attr-defined]
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    sys.path[0] = str(request["folder"])
    sys.argv = arguments
    _set_threads()
    sys.modules["__mp_main__"] = StepMain("__mp_main__")  # not the warm process's module
    status = 1
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _finish(status)


def _set_threads() -> None:
    """Give the imported libraries the threads that they would find at a start afresh.

    They read the environment once, when the warm process started: that of its first caller. How
    many threads share a sum decides its last bits.
    """
    from workflow_scripts.speed import set_threads  # here: edited code is read afresh

    given = os.environ.get("OMP_NUM_THREADS", "")
    set_threads(int(given) if given.isdecimal() else len(os.sched_getaffinity(0)))


def _finish(status: int) -> NoReturn:
    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
    peak_mib = max(used.ru_maxrss, children.ru_maxrss) / 1024  # Linux counts in KiB
    atexit._run_exitfuncs()  # os._exit would skip what the step registered
    with contextlib.suppress(ValueError):  # the step may have closed its own streams
        sys.stdout.flush()
    with contextlib.suppress(ValueError):
        sys.stderr.write(f"used {cpu_s:.2f} CPU-s, {peak_mib:.0f} MiB at most\n")
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
