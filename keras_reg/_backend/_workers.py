"""Data-loading processes and threads: how to detect them, and how to tell them apart."""

import functools
import os
import sys
import threading

_HOME = os.getpid()


def is_worker():
    """Whether this may be a data-loading worker. Grain reads in threads, PyTorch's `DataLoader` in processes.

    In a worker, NumPy handles NumPy arrays, since a framework may hang after a fork.
    """
    return threading.current_thread() is not threading.main_thread() or worker_words() != ()


def worker_words():
    """Returns numbers that identify this worker process, or none in the process that imported this package."""
    loader = sys.modules.get("torch.utils.data")
    info = loader.get_worker_info() if loader else None
    if info is not None:
        return (int(info.seed) & 0xFFFFFFFF, int(info.seed) >> 32 & 0xFFFFFFFF)
    if os.getpid() != _HOME or _is_spawned():
        return _process_words(os.getpid())
    return ()


@functools.cache
def _process_words(pid):
    return (pid, int.from_bytes(os.urandom(4), "little"))


def _is_spawned():
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None
