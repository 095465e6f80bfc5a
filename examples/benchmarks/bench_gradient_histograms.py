"""What `GradientHistograms` costs: the time of an epoch with it, beside the same epoch without.

    KERAS_BACKEND=jax python examples/benchmarks/bench_gradient_histograms.py [--quick] [--json FILE]

A small convolutional network (double convolutions of 32, 64 and 128 filters, 290,000 weights) on images of 32 x 32
pixels. Epochs with and without take turns, so that a busy moment of the machine hits all alike; what is compared is the
median of the ratios of neighbours, of the time on the clock and of the processor time, which other programs disturb
less. "Once" is what the first epoch takes longer: with the callback, the step that is watched is compiled, too.
"""

import statistics
import time

import keras
import numpy as np
from benchmarking import BACKEND, parse, parser, save

import keras_reg

BATCH = 64


def network():
    layers = [keras.Input((32, 32, 3))]
    for filters in (32, 64, 128):
        layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu") for _ in range(2)]
        layers += [keras.layers.MaxPooling2D()]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def contenders():
    make = keras_reg.callbacks.GradientHistograms
    return {
        "without": [],
        'every="epoch"': [make()],
        "every=1": [make(every=1)],
    }


def seconds(model, data, callbacks):
    """On the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    model.fit(*data, batch_size=BATCH, shuffle=False, verbose=0, callbacks=callbacks)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(steps, rounds):
    """Seconds of the first epoch and of each later one, of every contender; each has a model of its own."""
    rng = np.random.default_rng(0)
    data = rng.random((BATCH * steps, 32, 32, 3), "float32"), rng.integers(0, 10, BATCH * steps)
    ours = {name: (network(), callbacks) for name, callbacks in contenders().items()}
    first = {name: seconds(model, data, callbacks) for name, (model, callbacks) in ours.items()}
    later = {name: [] for name in ours}
    for _ in range(rounds):
        for name, (model, callbacks) in ours.items():
            later[name].append(seconds(model, data, callbacks))
    return first, later


def main(argv=None):
    made = parser(__doc__)
    made.add_argument("--steps", type=int, help="steps of an epoch (default 60, quick 10)")
    made.add_argument("--rounds", type=int, help="epochs of each (default 7, quick 3)")
    arguments = parse(made, argv)
    steps = arguments.steps or (10 if arguments.quick else 60)
    first, later = measure(steps, arguments.rounds or (3 if arguments.quick else 7))
    print(f"\nGradientHistograms on {BACKEND}: an epoch of {steps} steps, {BATCH} images each")
    print(f"{'':<16}{'s an epoch':>12}{'overhead':>10}{'processor':>11}{'once, s':>10}")
    results = []
    for name, times in later.items():
        median = statistics.median(clock for clock, _ in times)
        wall, processor = (
            statistics.median(ours[i] / plain[i] for ours, plain in zip(times, later["without"], strict=True))
            for i in range(2)
        )
        once = first[name][0] - median
        results.append({"backend": BACKEND, "name": name, "seconds": median, "ratio": wall, "processor": processor})
        print(f"{name:<16}{median:>12.2f}{wall - 1:>10.1%}{processor - 1:>11.1%}{once:>10.1f}")
    save(arguments.json, "gradient_histograms", results, arguments.quick)
    return results


if __name__ == "__main__":
    main()
