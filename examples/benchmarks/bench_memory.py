"""Peak memory that one call of each layer adds, in batches, on one backend; beside Keras' own and other packages'.

    KERAS_BACKEND=tensorflow python examples/benchmarks/bench_memory.py [--quick] [--json FILE]

Measured by the kernel of Linux (the peak of the resident set, counted anew before the call) after a call that compiled
and was thrown away. The result of the call is in the number: one batch, except where the call works in place.
TensorFlow runs without oneDNN here, whose allocator keeps the memory that it once got: nothing would be seen outside.
"""

import ctypes
import gc
import os
import pathlib
import resource
import sys

if __name__ == "__main__":
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # before TensorFlow is imported

from bench_layers import batch, data_for
from benchmarking import BACKEND, parse, parser, save, verdict, works
from contenders import contenders
from modes import COMPILED, MODES, forget
from rows import LINKS, PIXELS, TARGETED, names

SHAPE = (64, 224, 224, 3)  # 38 MB: `malloc` gives arrays of more than 32 MB back to the system at once


def reset_peak():
    """The memory in use, from which the peak counts anew; without Linux' /proc, the peak so far."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_bytes()
    return peak_bytes()


def peak_bytes():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_of(call):
    """Bytes that a call adds at its peak; the middle of three, since one may use what another left behind."""
    found = []
    for _ in range(3):
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        before = reset_peak()
        call()
        found.append(peak_bytes() - before)
    return sorted(found)[1]


def measure(name, shape, modes):
    """{(who, mode): batches}."""
    arrays, found = batch(shape, "float32"), {}
    forget()
    for contender in contenders(name):
        data = data_for(contender, arrays, "float32")
        for mode in modes:
            if mode in contender.modes:
                for key, call in works({(contender.who, mode): contender.call(mode, data)}, name).items():
                    found[key] = peak_of(call) / arrays[0].nbytes
    return found


def targets(found):
    print(f"\nTarget of memory on {BACKEND}")
    ours = [row for row in found if row["who"] == "keras_reg" and row["layer"] in TARGETED]
    cells = [(f"{row['layer']}, {row['mode']}", row["batches"], 1.05) for row in ours]
    pixels = [
        (f"{row['layer']}, {row['mode']}", row["batches"] - 1, 2.05)
        for row in found
        if row["who"] == "keras_reg" and row["layer"] in PIXELS
    ]
    return [
        verdict("at most one batch, the result (0.05 for labels and code)", cells),
        verdict("at most one batch beside the result", [(name, value - 1, limit) for name, value, limit in cells]),
        verdict("at most two batches beside the result", pixels),
    ]


def main(argv=None, shape=SHAPE, rows=None, modes=MODES):
    given = parse(parser(__doc__), argv)
    if given.quick:
        modes, rows = ([mode for mode in modes if mode in COMPILED[:3]] or ["eager"]), rows or LINKS
    rows = rows or [*names(targeted=True), *PIXELS]
    found = []
    print(f"\nPeak memory that a call adds on {BACKEND}, float32 {'x'.join(map(str, shape))}: batches, with the result")
    for name in rows:
        made = measure(name, shape, modes)
        found += [{"layer": name, "who": who, "mode": mode, "batches": value} for (who, mode), value in made.items()]
        print(
            f"  {name:36}{'   '.join(f'{who}, {mode} {value:.2f}' for (who, mode), value in made.items())}", flush=True
        )
    save(given.json, "memory", found, given.quick, targets(found))
    return found


if __name__ == "__main__":
    main()
