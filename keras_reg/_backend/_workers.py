"""Data-loading processes and threads: how to detect them, and how to tell them apart."""

import functools
import multiprocessing
import os
import re
import sys
import threading
import zlib

_HOME, _HOME_PROCESS = os.getpid(), multiprocessing.current_process()


def is_worker():
    """Whether this may be a data-loading worker. Grain reads in threads, PyTorch's `DataLoader` in processes.

    In a worker, NumPy handles NumPy arrays, since a framework may hang after a fork.
    """
    return threading.current_thread() is not threading.main_thread() or worker_words() != ()


def worker_words(made_here=False):
    """Returns numbers that identify this worker process, or none in the process that imported this package.

    With `made_here`, for a layer that was made in this process, a process that was started for other work, such as a
    training, has none either. The processes of pools and data loaders are daemons.
    """
    loader = sys.modules.get("torch.utils.data")
    info = loader.get_worker_info() if loader else None
    if info is not None:
        return (int(info.seed) & 0xFFFFFFFF, int(info.seed) >> 32 & 0xFFFFFFFF)
    if os.getpid() == _HOME and multiprocessing.parent_process() is None:
        return ()
    return () if made_here and not multiprocessing.current_process().daemon else _process_words(os.getpid())


@functools.cache
def _process_words(pid):
    """Numbers that are the same in each run of a program, if the process has a name of its own."""
    process = multiprocessing.current_process()
    is_bare_fork = pid != _HOME and process is _HOME_PROCESS
    if re.search(r"-\d+$", process.name) and not is_bare_fork:  # such as "SpawnProcess-2", counted by the parent
        return (zlib.crc32(process.name.encode()),)
    return (pid, int.from_bytes(os.urandom(4), "little"))
