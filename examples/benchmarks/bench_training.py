"""What `RegularizedModel` adds to a training step: epochs of a ResNet-18 for CIFAR, plain and augmented, by turns.

    KERAS_BACKEND=jax python examples/benchmarks/bench_training.py [--quick] [--json FILE]

Batches of 128 images of 32 x 32, with integer labels and with one-hot labels. The augmentation erases and chooses
between MixUp and CutMix for each sample. What is compared is the median of the ratios of neighbours, of the time on the
clock and of the processor time, which other programs disturb less. "Alone" is the compiled augmentation by itself, as a
share of the plain step: what the step cannot hide. Quick mode has an eighth of the filters, which makes the step
some 50 times shorter and the share as much larger.
"""

import statistics
import time

import keras
import numpy as np
from benchmarking import BACKEND, by_turns, parse, parser, save, verdict
from modes import COMPILED, MODES, Contender

from keras_reg import layers, training

BATCH, CLASSES = 128, 10
FORMS = ("integer", "one-hot")


def resnet18(width=64):
    """He et al.'s ResNet-18 as for CIFAR: a 3x3 stem, no pooling before the end."""

    def convolution(x, filters, size, stride=1):
        x = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
        return keras.layers.BatchNormalization()(x)

    def block(x, filters, stride):
        y = keras.layers.ReLU()(convolution(x, filters, 3, stride))
        y = convolution(y, filters, 3)
        x = x if stride == 1 and x.shape[-1] == filters else convolution(x, filters, 1, stride)
        return keras.layers.ReLU()(keras.layers.add([x, y]))

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(convolution(inputs, width, 3))
    for stage in range(4):
        for i in range(2):
            x = block(x, width * 2**stage, 2 if stage and not i else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def augmentation():
    choice = layers.RandomChoice([layers.MixUp(0.2), layers.CutMix(1.0)], mode="sample")
    return layers.Pipeline([layers.RandomErasing(0.5), choice])


def compiled(network, form):
    losses = {"integer": keras.losses.SparseCategoricalCrossentropy, "one-hot": keras.losses.CategoricalCrossentropy}
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), losses[form](from_logits=True), metrics=["accuracy"])
    return network


def contenders(make, forms=FORMS):
    found = {}
    for form in forms:
        found[form, "plain"] = compiled(make(), form)
        found[form, "augmented"] = compiled(training.RegularizedModel(make(), augmentation()), form)
    return found


def batches(images, labels, batch_size):
    """The arguments of `fit` for arrays on the host."""
    return {"x": images, "y": labels, "batch_size": batch_size, "shuffle": False}


def seconds(model, data):
    """On the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    model.fit(**data, verbose=0)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(make, images, batch_size, rounds, classes=CLASSES, forms=FORMS, batches=batches):
    """{(form, who): [(clock, processor) of each epoch]}; the models take turns."""
    ids = np.arange(len(images)) % classes
    labels = {"integer": ids, "one-hot": np.eye(classes, dtype="float32")[ids]}
    data = {form: batches(images, labels[form], batch_size) for form in forms}
    models = contenders(make, forms)
    for (form, _), model in models.items():
        seconds(model, data[form])
    times = {key: [] for key in models}
    for i in range(rounds):
        for key in list(models)[:: 1 if i % 2 else -1]:
            times[key].append(seconds(models[key], data[key[0]]))
    return times


def alone(shape, classes=CLASSES):
    """Milliseconds of the compiled augmentation of one batch."""
    layer = augmentation()
    images = keras.ops.convert_to_tensor(np.random.default_rng(0).random(shape, "float32"))
    labels = keras.ops.convert_to_tensor(np.eye(classes, dtype="float32")[np.arange(shape[0]) % classes])
    mode = next((mode for mode in MODES if mode in COMPILED[:3]), "eager")
    contender = Contender("ours", lambda x, y: layer((x, y)), (layer,))
    return by_turns({"ours": contender.call(mode, (images, labels))}, 0.1)["ours"]


def overheads(times, steps, alone_ms):
    rows = []
    for form in dict.fromkeys(form for form, _ in times):
        pairs = list(zip(times[form, "augmented"], times[form, "plain"], strict=True))
        step = 1e3 * statistics.median(clock for clock, _ in times[form, "plain"]) / steps
        clock, processor = (statistics.median(ours[i] / plain[i] for ours, plain in pairs) for i in range(2))
        rows.append({"labels": form, "step_ms": step, "ratio": clock, "processor": processor, "alone": alone_ms / step})
        print(f"  {form:12}{step:12.1f}{clock - 1:>12.1%}{processor - 1:>12.1%}{alone_ms / step:>10.1%}", flush=True)
    return rows


def targets(rows):
    cells = [(f"{row['labels']} labels, {key}", row[key] - 1, 0.03) for row in rows for key in ("ratio", "processor")]
    return [verdict("at most 3 % over the plain fit", cells)]


def main(argv=None, width=None, steps=None, rounds=None, batch_size=BATCH):
    made = parser(__doc__)
    made.add_argument("--steps", type=int, help="of an epoch (default 3, quick 2)")
    made.add_argument("--rounds", type=int, help="epochs of each (default 7, quick 2)")
    given = parse(made, argv)
    steps = given.steps or steps or (2 if given.quick else 3)
    rounds = given.rounds or rounds or (2 if given.quick else 7)
    width = width or (8 if given.quick else 64)
    images = np.random.default_rng(0).random((batch_size * steps, 32, 32, 3), "float32")
    print(f"\nResNet-18 for CIFAR with {width} filters on {BACKEND}, batches of {batch_size}: what augmentation adds")
    print(f"  {'labels':12}{'plain ms':>12}{'clock':>12}{'processor':>12}{'alone':>10}")
    rows = overheads(
        measure(lambda: resnet18(width), images, batch_size, rounds), steps, alone((batch_size, 32, 32, 3))
    )
    rows = [row | {"width": width, "batch": batch_size} for row in rows]
    save(given.json, "training", rows, given.quick, targets(rows))
    return rows


if __name__ == "__main__":
    main()
