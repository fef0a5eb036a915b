"""Process settings: how fast a step runs, and that a GPU counts as exactly as a CPU."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD = -1  # glibc, malloc.h
M_MMAP_THRESHOLD = -3  # glibc, malloc.h
NEVER_TRIM = -1
MMAP_BYTES = 1 << 30  # activations are smaller, so they come from memory already paged in
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def tune_allocator() -> bool:
    """Let glibc keep freed memory, instead of paging activations in again at every layer.

    A third of the time of a CPU forward pass is otherwise spent in the kernel; results are
    bit-identical (performance facts, section 3). Call it before the first large allocation.

    Returns:
        Whether the C library took the setting; others than glibc do not have it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MMAP_BYTES) and mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))


def set_threads(n_threads: int) -> None:
    """Give numerical libraries `n_threads` threads: those loaded, and those loaded later.

    torch is set if it is loaded, never loaded for this.

    Raises:
        ValueError: if `n_threads` is below one.
    """
    if n_threads < 1:
        raise ValueError(f"expected at least one thread, got {n_threads}")
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    threadpool_limits(limits=n_threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)


def exact_arithmetic() -> None:
    """Make float32 mean float32 on a GPU, where torch lets convolutions round pixels to 10 bits.

    Features are then off by 1e-3 and more, and an edit of noise is smaller than the rounding.
    Trainings have their own setting (`--precision`).
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
