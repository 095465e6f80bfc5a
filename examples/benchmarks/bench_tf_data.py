"""Images per second and core inside `tf.data.map`, beside Keras' own layers and other packages', on each backend.

    KERAS_BACKEND=torch python examples/benchmarks/bench_tf_data.py [--quick] [--json FILE]

A map runs in a TensorFlow graph whatever the backend. The rate is images over processor seconds, of all threads taken
together, which says what a core achieves and which other programs disturb little. "xla" is the same function compiled,
`tf.function(layer, jit_compile=True)`. Maps take turns; the number is the median over the turns.

Before that: the processor seconds of a process' first `dataset.map` of a pipeline, which traces everything once.
"""

import argparse
import statistics
import time

import tensorflow as tf
from bench_layers import QUICK, SIZES, batch
from benchmarking import BACKEND, number_of, parse, parser, save, turns_of, verdict, works
from contenders import contenders, own_layer
from rows import LINKS, PIXELS, names

MODES = ("map", "xla")
PIPELINE = "Pipeline of erasing and choice"


class Pull:
    """Pulls `count` batches through a map with this contender; traced at the first call."""

    def __init__(self, contender, mode, arrays):
        self.contender, self.mode, self.arrays, self.iterator = contender, mode, arrays, None

    def __call__(self, count=1):
        if self.iterator is None:
            run = tf.function(self.contender.run, jit_compile=True) if self.mode == "xla" else self.contender.run
            dataset = (
                tf.data.Dataset.from_tensors(self.arrays[:2]).repeat().map(lambda images, labels: run(images, labels))
            )
            self.iterator = iter(dataset.with_options(_nothing_ahead()))
        for _ in range(count):
            next(self.iterator)


def _nothing_ahead():
    """No batch is made before it is asked for: its seconds would count as another's."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    return options


def rates(functions, images, seconds, rounds):
    """{name: images per processor second}; each turn lasts about `seconds`."""
    counts, turns, found = {}, {}, {name: [] for name in functions}
    for name, pull in functions.items():
        pull(1)
        start = time.perf_counter()
        pull(1)
        took = time.perf_counter() - start
        counts[name], turns[name] = max(1, round(seconds / max(took, 1e-6))), turns_of(name, took, rounds)
    for i in range(rounds):
        for name, pull in functions.items():
            if i >= turns[name]:
                continue
            start = time.process_time()
            pull(counts[name])
            found[name].append(counts[name] * images / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def measure(name, shape, seconds, rounds):
    arrays, functions = batch(shape, "float32"), {}
    for contender in contenders(name):
        if contender.first:
            continue  # made for PyTorch's tensors
        for mode in MODES:
            functions[contender.who, mode] = contender, mode

    calls = {key: Pull(*found, arrays) for key, found in functions.items()}
    return rates(works(calls, name), shape[0], seconds, rounds)


def table(shape, rows, seconds, rounds):
    size, found = "x".join(map(str, shape)), []
    print(f"\nInside tf.data.map under {BACKEND}, float32 {size}: images per second and core")
    for name in rows:
        for (who, mode), rate in measure(name, shape, seconds, rounds).items():
            found.append({"size": size, "layer": name, "mode": mode, "who": who, "rate": rate})
        cells = [f"{row['who']}, {row['mode']} {row['rate']:.0f}" for row in found if row["layer"] == name]
        print(f"  {name:36}{'   '.join(cells)}", flush=True)
    return found


def first_map():
    """Processor seconds that the first map of a process takes. Runs in a process of its own."""
    pipeline, (images, labels, *_) = own_layer(PIPELINE), batch((64, 32, 32, 3), "float32")
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)
    start = time.process_time()
    dataset.map(lambda images, labels: pipeline((images, labels)))
    return time.process_time() - start


def targets(found):
    cells = {}
    for row in found:
        cells.setdefault((row["size"], row["layer"], row["mode"]), {})[row["who"]] = row["rate"]
    others = [
        (f"{who}: {', '.join(key)}", rate / cell["keras_reg"], 1.0)
        for key, cell in cells.items()
        for who, rate in cell.items()
        if who != "keras_reg" and "keras_reg" in cell
    ]
    print(f"\nTargets of tf.data.map on {BACKEND}")
    made = [verdict("as many images per second as any other", others)]
    if others:
        faster = statistics.geometric_mean(1 / ratio for _, ratio, _ in others)
        mean = [(f"{faster:.2f} times", 1 / faster, 1.0)]
        made.append(verdict("more images per second than others in the geometric mean (1 / times)", mean))
    return made


def main(argv=None, sizes=None, rows=None):
    made = parser(__doc__)
    made.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    given = parse(made, argv)
    if given.first:
        print(first_map())
        return None
    if not given.quick:
        first = statistics.median(number_of(__file__, "--first") for _ in range(3))
        print(f"\nFirst dataset.map of a process, {PIPELINE}, under {BACKEND}: {first:.2f} processor seconds")
    sizes = sizes or (QUICK[-1:] if given.quick else SIZES[:2])
    rows = rows or (LINKS if given.quick else [*names(targeted=True), *PIXELS])
    found = []
    for shape in sizes:
        found += table(shape, rows, *((0.02, 3) if given.quick else (0.2, 5)))
    save(given.json, "tf_data", found, given.quick, targets(found))
    return found


if __name__ == "__main__":
    main()
