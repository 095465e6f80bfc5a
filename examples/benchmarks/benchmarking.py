"""What the benchmarks share: the command line, timing by turns, the limits, and one file for all results."""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import platform
import random
import re
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

BACKEND = keras.backend.backend()


# The command line ---------------------------------------------------------------------------------------------------


def parser(doc):
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--quick", action="store_true", help="fewer cells, a fraction of the time for each")
    made.add_argument("--json", type=pathlib.Path, help="file for the numbers; those of other benchmarks in it stay")
    return made


def parse(made, argv):
    """Parsed leniently: `make bench` hands the same arguments to every benchmark."""
    return made.parse_known_args(argv)[0]


# Timing -------------------------------------------------------------------------------------------------------------

LONGEST = 10.0  # seconds for all turns of a slow function: it should not hold up a whole benchmark
FEWEST = 2  # turns that even a slow function takes


def by_turns(functions, seconds=0.5, rounds=7, warm_up=2):
    """{name: median milliseconds of a call} of functions without arguments that return when the work is done.

    In each round every function is called once, in a new random order, so that a busy moment of the machine and what
    the one before left in the caches hit all alike. Rounds go on until `seconds` for each function are over, and for
    at least `rounds`. A slow function takes part in the first of them only, and a line says so.
    """
    times, lasted = {name: [] for name in functions}, {}
    order, shuffled = list(functions), random.Random(0)
    for name in order * warm_up:
        lasted[name] = _seconds_of(functions[name])
    turns = {name: turns_of(name, lasted.get(name, 0), rounds) for name in order}
    end, done = time.perf_counter() + seconds * len(order), 0
    while done < rounds or time.perf_counter() < end:
        shuffled.shuffle(order)
        for name in order:
            if turns[name] >= rounds or done < turns[name]:
                times[name].append(1e3 * _seconds_of(functions[name]))
        done += 1
    return {name: statistics.median(found) for name, found in times.items()}


def _seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def turns_of(name, seconds, rounds):
    """The number of turns of a function of which a call takes so many seconds. A line says if they are fewer."""
    turns = min(rounds, max(FEWEST, int(LONGEST / max(seconds, 1e-9))))
    if turns < rounds:
        who = name if isinstance(name, str) else ", ".join(filter(None, name))
        print(f"  {who}: {turns} turns instead of {rounds}, since a call takes {seconds:.1f} s")
    return turns


def in_rounds(functions, rounds):
    """{who: [(seconds, processor seconds) of each round]}, after one round to compile."""
    found, order, shuffled = {who: [] for who in functions}, list(functions), random.Random(0)
    for i in range(rounds + 1):
        shuffled.shuffle(order)
        for who in order:
            start = time.perf_counter(), time.process_time()
            functions[who]()
            if i:
                found[who].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return found


def paired(ours, plain):
    """The medians of the ratios of neighbors: of the time on the clock, and of the processor time."""
    return [statistics.median(mine[i] / other[i] for mine, other in zip(ours, plain, strict=True)) for i in range(2)]


def works(functions, title):
    """Those of `functions`, {(who, mode): function}, that run. A line says which do not and why, or start slowly."""
    found = {}
    for (who, mode), function in functions.items():
        start = time.perf_counter()
        try:
            with _silence():
                function()
        except Exception as error:
            print(f"  {title}: {who} does not run ({mode}): {type(error).__name__}: {_reason(error)}")
            continue
        found[who, mode], seconds = function, time.perf_counter() - start
        if seconds > LONGEST:
            print(f"  {title}: the first call of {who} ({mode}) took {seconds:.0f} s", flush=True)
    return found


def _reason(error):
    unsupported = re.search(r"on XLA_\w+: (\w+)", str(error))
    line = f"no {unsupported[1]} in XLA" if unsupported else (str(error).strip() or " ").splitlines()[0]
    return line[:90]


@contextlib.contextmanager
def _silence():
    """Keeps what compilers write to the standard error where a layer cannot be compiled: pages of it."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def number_of(script, *arguments):
    """The number that a script prints last, run with these arguments in a process of its own."""
    command = [sys.executable, script, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def copies(array):
    """The limits, three copies of the batch: into a fresh NumPy array, into one that is there, into fresh plain memory.

    NumPy asks Linux for huge pages, where the first touch of fresh memory costs a fraction. No backend does: its result
    lies in memory of `malloc`, and that copy is what it can reach.
    """
    there = np.empty_like(array)
    return {"fresh copy": array.copy, "copy into": lambda: np.copyto(there, array), "malloc copy": _malloc_copy(array)}


def _malloc_copy(array):
    library = ctypes.CDLL(None)
    library.malloc.restype = library.memcpy.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

    def copy():
        there = library.malloc(array.nbytes)
        library.memcpy(there, array.ctypes.data, array.nbytes)
        library.free(there)

    return copy


# Results ------------------------------------------------------------------------------------------------------------


def machine():
    """Where and with what the numbers were measured."""
    cpu = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        named = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = named[0] if named else cpu
    versions = {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__}
    versions[BACKEND] = __import__(BACKEND).__version__
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    tuned = {name: os.environ[name] for name in ("GLIBC_TUNABLES",) if name in os.environ}
    return {"cpu": cpu, "cores": os.cpu_count(), "load": load, "system": platform.system(), **versions, **tuned}


def save(path, benchmark, rows, quick, targets=()):
    """Puts what one benchmark found on one backend into the file, in the place of what was there.

    `targets` are verdicts; one without a cell, for what was not measured, is left out.
    """
    if not path:
        return
    results = json.loads(path.read_text()) if path.exists() else {}
    entry = {"quick": bool(quick), "date": time.strftime("%Y-%m-%d"), "machine": machine(), "rows": rows}
    entry["targets"] = [target for target in targets if target["cells"]]
    results.setdefault(benchmark, {})[BACKEND] = entry
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(json.dumps(results), parse_float=lambda x: float(f"{float(x):.4g}")), sort_keys=True)
    path.write_text(text.replace("}, {", "},\n{") + "\n")  # a line for each row


def verdict(target, cells, shown=4):
    """Prints whether a target is met, and returns what it found.

    `cells` is a list of (name of the cell, measured value, its limit).
    """
    missed = sorted((cell for cell in cells if cell[1] > cell[2]), key=lambda cell: cell[2] / cell[1])
    if not cells:
        print(f"  not measured  {target}")
    elif not missed:
        name, value, limit = max(cells, key=lambda cell: cell[1] / cell[2])
        print(f"  met           {target}: all of {len(cells)}; closest {value:.3g} of {limit:.3g} ({name})")
    else:
        print(f"  missed        {target}: by {len(missed)} of {len(cells)}")
    for name, value, limit in missed[:shown]:
        print(f"                  {value:.3g} of {limit:.3g}, missed by {value / limit - 1:.0%}: {name}")
    if len(missed) > shown:
        print(f"                  and {len(missed) - shown} more")
    return {"target": target, "cells": len(cells), "missed": missed}
