"""Processes and threads that load data: what tells them apart."""

import functools
import os
import sys
import threading

_HOME = os.getpid()


@functools.cache
def _process_words(pid):
    return (pid, int.from_bytes(os.urandom(4), "little"))


def worker_words():
    """What tells this worker's random numbers from those of its siblings: nothing in the process that imported us."""
    loader = sys.modules.get("torch.utils.data")
    info = loader.get_worker_info() if loader else None
    if info is not None:
        return (int(info.seed) & 0xFFFFFFFF, int(info.seed) >> 32 & 0xFFFFFFFF)
    if os.getpid() != _HOME or _is_spawned():
        return _process_words(os.getpid())
    return ()


def _is_spawned():
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def _in_worker():
    """Grain reads in threads, torch's DataLoader in processes: NumPy there, since a forked framework may hang."""
    return threading.current_thread() is not threading.main_thread() or worker_words() != ()
