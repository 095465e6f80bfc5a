"""What each part of `RegularizedModel`, and `WeightAverage`, adds to a training step of a ResNet-18 for CIFAR.

    KERAS_BACKEND=jax python examples/benchmarks/bench_parts.py [--quick] [--keep-memory] [--json FILE]

Batches of 128 images of 32 x 32 with integer labels. All networks have dropout before the last layer, which R-Drop
needs. In each round every model trains for one short epoch, in a random order. Each epoch is compared with the plain
epoch of the same round; the numbers are medians over the rounds. Quick mode has an eighth of the filters, so costs that
do not depend on the network are a larger share.

With `--keep-memory`, glibc keeps freed memory instead of giving it back to the operating system in each step. PyTorch
takes its memory on a processor from glibc. The numbers get a table of their own.
"""

import os
import statistics
import sys

import bench_training
import numpy as np
from benchmarking import BACKEND, in_rounds, paired, parse, parser, save, verdict

from keras_reg import callbacks, layers, surgery, training

PLAIN = "plain"
LIMITS = {
    "augmentation": 1.03,
    "ConfidencePenalty": 1.02,
    "SharpnessAware": 2.1,
    "ConsistentDropout": 2.1,
    "VirtualAdversarial": 3.2,
    "JensenShannonConsistency": 3.3,
    "WeightAverage": 1.03,
}


KEEPS_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**30),
}


def keep_memory():
    """Starts this program again where glibc does not keep memory: it reads its settings at the start of a process."""
    if KEEPS_MEMORY.items() - os.environ.items():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEPS_MEMORY)


def jensen_shannon():
    return training.JensenShannonConsistency(layers.AugMix(value_range=(0, 1)))


def parts_of(name):
    """The arguments of `RegularizedModel` for one row."""
    return {
        "augmentation": lambda: {"augmentation": bench_training.augmentation()},
        "ConfidencePenalty": lambda: {"penalties": [training.ConfidencePenalty(0.1)]},
        "SharpnessAware": lambda: {"sharpness": training.SharpnessAware(0.05)},
        "ConsistentDropout": lambda: {"penalties": [training.ConsistentDropout(1.0)]},
        "VirtualAdversarial": lambda: {"penalties": [training.VirtualAdversarial(1.0)]},
        "JensenShannonConsistency": lambda: {"penalties": [jensen_shannon()]},
        "WeightAverage": lambda: {},
    }[name]()


def epochs(make, names, images, batch_size):
    """{who: a function that trains a model for one epoch}"""
    labels = np.arange(len(images)) % bench_training.CLASSES
    models = {PLAIN: make()} | {name: training.RegularizedModel(make(), **parts_of(name)) for name in names}

    def of(name, model):
        bench_training.compiled(model, "integer")
        used = [callbacks.WeightAverage()] if name == "WeightAverage" else []
        return lambda: model.fit(images, labels, batch_size=batch_size, shuffle=False, verbose=0, callbacks=used)

    return {name: of(name, model) for name, model in models.items()}


def ratios(found, steps):
    rows = []
    step = 1e3 * statistics.median(clock for clock, _ in found[PLAIN]) / steps
    for name in found.keys() - {PLAIN}:
        clock, processor = paired(found[name], found[PLAIN])
        rows.append({"part": name, "step_ms": step, "ratio": clock, "processor": processor})
    rows.sort(key=lambda row: list(LIMITS).index(row["part"]))
    for row in rows:
        limit = LIMITS[row["part"]]
        print(f"  {row['part']:20}{step:12.1f}{row['ratio']:>12.3f}{row['processor']:>12.3f}{limit:>10}", flush=True)
    return rows


def targets(rows, memory=""):
    cells = [(row["part"], row["ratio"], LIMITS[row["part"]]) for row in rows]
    return [verdict(f"a part of the step within its limit{memory}", cells)]


def main(argv=None, steps=None, rounds=None, batch_size=bench_training.BATCH, parts=tuple(LIMITS)):
    made = parser(__doc__)
    made.add_argument("--steps", type=int, help="of an epoch (default 2)")
    made.add_argument("--rounds", type=int, help="epochs of each (default 7, quick 3)")
    made.add_argument("--keep-memory", action="store_true", help="glibc keeps freed memory")
    given = parse(made, argv)
    if given.keep_memory:
        keep_memory()
    steps, rounds = given.steps or steps or 2, given.rounds or rounds or (3 if given.quick else 7)
    width = 8 if given.quick else 64
    images = np.random.default_rng(0).random((batch_size * steps, 32, 32, 3), "float32")
    print(
        f"\nResNet-18 for CIFAR with {width} filters on {BACKEND}, batches of {batch_size}: a step over the plain one"
    )
    print(f"  {'':20}{'plain ms':>12}{'clock':>12}{'processor':>12}{'limit':>10}")

    def make():
        return surgery.regularize(bench_training.resnet18(width), dropout=0.1)

    rows = ratios(in_rounds(epochs(make, parts, images, batch_size), rounds), steps)
    rows = [row | {"width": width, "batch": batch_size} for row in rows]
    name, memory = ("parts_memory_kept", ", memory kept") if given.keep_memory else ("parts", "")
    save(given.json, name, rows, given.quick, targets(rows, memory))
    return rows


if __name__ == "__main__":
    main()
