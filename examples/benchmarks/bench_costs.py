"""Processor milliseconds a batch of every augmentation layer, compiled under JAX and TensorFlow, eager under PyTorch.

    KERAS_BACKEND=jax python examples/benchmarks/bench_costs.py [--quick] [--json docs/results/costs.json]

Layers take turns in one process; each number is the least over the turns, after warm-up. It is processor time, of all
threads taken together, so that other programs disturb it little. Then

    python examples/benchmarks/report.py docs/results/costs.json --pages docs/costs.md

writes the table of docs/costs.md.
"""

import time

import keras
import numpy as np
from benchmarking import BACKEND, parse, parser, save
from contenders import own_layer
from modes import MODES, Contender
from rows import NOT_FUSED, OTHERS, TARGETED, WITH_COLORS

SIZES = ((256, 32, 32, 3), (16, 224, 224, 3))
QUICK = ((8, 8, 8, 3),)
MODE = MODES[0] if BACKEND == "torch" else MODES[-1]
ONE_PASS = "one pass over the pixels"
ROWS = (*(name for name in TARGETED if "noise" not in name), *OTHERS, NOT_FUSED, WITH_COLORS)


def contender(name):
    if name == ONE_PASS:
        return Contender(name, lambda x, y: (x * 1.5, y))
    layer = own_layer(name)
    return Contender(name, lambda x, y: layer((x, y)), (layer,))


def processor_milliseconds(functions, rounds):
    """{name: the least processor time of a call}, in turns."""
    found = {name: [] for name in functions}
    for i in range(rounds + 2):
        for name, function in functions.items():
            start = time.process_time()
            function()
            if i > 1:
                found[name].append(1e3 * (time.process_time() - start))
    return {name: min(times) for name, times in found.items()}


def measure(shape, rows, rounds):
    x = keras.ops.convert_to_tensor(np.random.default_rng(0).random(shape, "float32"))
    y = keras.ops.one_hot(np.arange(shape[0]) % 10, 10)
    functions = {name: contender(name).call(MODE, (x, y)) for name in (ONE_PASS, *rows)}
    size = "x".join(map(str, shape))
    for name, ms in processor_milliseconds(functions, rounds).items():
        print(f"{BACKEND} {MODE}, {size}: {name:36}{ms:9.2f} ms")
        yield {"size": size, "layer": name, "mode": MODE, "ms": ms}


def main(argv=None, sizes=SIZES, rows=ROWS, rounds=15):
    given = parse(parser(__doc__), argv)
    sizes, rounds = (QUICK, 1) if given.quick else (sizes, rounds)
    found = []
    for shape in sizes:
        found += measure(shape, rows, rounds)
        save(given.json, "costs", found, given.quick)
    return found


if __name__ == "__main__":
    main()
