"""What users pay: a training step with augmentation, and `fit` on a tf.data pipeline with augmentation.

    KERAS_BACKEND=jax python examples/benchmarks/bench_step.py [--quick] [--json FILE]

The network is small, three convolutions of 32, 64 and 64 filters, so that the cost of augmentation shows. Batches are
128 images of 32 x 32. In each round every model trains for one short epoch, in a random order. Each epoch is compared
with the plain epoch of the same round, by the clock and by processor time, which other programs disturb less; the
numbers are medians over the rounds.
"""

import statistics

import keras
import numpy as np
import tensorflow as tf
from benchmarking import BACKEND, in_rounds, paired, parse, parser, save, verdict

from keras_reg import layers, training

BATCH, CLASSES = 128, 10
LONGER = 8  # an epoch of tf.data, which starts its pipeline anew for each
LIMITS = {"in the step": 1.03, "in tf.data": 1.12}
PLAIN_OF = {"in the step": "plain", "in tf.data": "plain tf.data", "Keras in tf.data": "plain tf.data"}


def network():
    def block(filters):
        return [keras.layers.Conv2D(filters, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]

    last = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input((32, 32, 3)), *block(32), *block(64), *block(64), *last])


def compiled(model):
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def augmentation():
    choice = layers.RandomChoice([layers.MixUp(0.2), layers.CutMix(1.0)], mode="sample")
    return layers.Pipeline([layers.RandomErasing(0.5), choice])


def of_keras():
    """Keras' own layers for the same: each mixes every image, and they cannot choose for each sample."""
    parts = [
        keras.layers.RandomErasing(0.5, value_range=(0, 1)),
        keras.layers.MixUp(0.2),
        keras.layers.CutMix(1.0),
    ]

    def augment(images, labels):
        data = {"images": images, "labels": labels}
        for layer in parts:
            data = layer(data, training=True)
        return data["images"], data["labels"]

    return augment


def epochs(steps, batch_size, only=None):
    """{who: a function that trains a model for one epoch}; `only` "step" or "pipeline"."""
    images = np.random.default_rng(0).random((LONGER * batch_size * steps, 32, 32, 3), "float32")
    labels = np.eye(CLASSES, dtype="float32")[np.arange(len(images)) % CLASSES]
    few = images[: batch_size * steps], labels[: batch_size * steps]
    plain = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size, drop_remainder=True)
    pipeline = augmentation()

    def of_arrays(model):
        return lambda: model.fit(*few, batch_size=batch_size, verbose=0)

    def of_dataset(dataset):
        model = compiled(network())
        return lambda: model.fit(dataset.prefetch(2), shuffle=False, verbose=0)

    found = {}
    if only != "pipeline":
        found["plain"] = of_arrays(compiled(network()))
        found["in the step"] = of_arrays(compiled(training.RegularizedModel(network(), augmentation())))
    if only != "step":
        found["plain tf.data"] = of_dataset(plain)
        found["in tf.data"] = of_dataset(plain.map(lambda images, labels: pipeline((images, labels))))
    if only != "step" and hasattr(keras.layers, "CutMix"):  # of Keras 3.11 and later
        found["Keras in tf.data"] = of_dataset(plain.map(of_keras()))
    return found


def ratios(found, steps):
    rows = []
    for who, plain in PLAIN_OF.items():
        if who in found:
            clock, processor = paired(found[who], found[plain])
            length = steps if plain == "plain" else LONGER * steps
            step = 1e3 * statistics.median(seconds for seconds, _ in found[plain]) / length
            rows.append({"where": who, "step_ms": step, "ratio": clock, "processor": processor})
            print(f"  {who:20}{step:12.1f}{clock:>12.3f}{processor:>12.3f}", flush=True)
    return rows


def targets(rows):
    cells = [(row["where"], row["processor"], LIMITS[row["where"]]) for row in rows if row["where"] in LIMITS]
    return [verdict("processor time: at most 1.03 of a plain step, 1.12 with tf.data", cells)]


def main(argv=None, steps=None, rounds=None, batch_size=BATCH):
    made = parser(__doc__)
    made.add_argument("--only", choices=("step", "pipeline"), help="one of the two")
    given = parse(made, argv)
    steps = steps or (2 if given.quick else 4)
    rounds = rounds or (5 if given.quick else 25)
    print(f"\nThree convolutions on {BACKEND}, batches of {batch_size}: time of an epoch over that of the plain model")
    print(f"  {'':20}{'plain ms':>12}{'clock':>12}{'processor':>12}")
    rows = ratios(in_rounds(epochs(steps, batch_size, given.only), rounds), steps)
    save(given.json, "step", rows, given.quick, targets(rows))
    return rows


if __name__ == "__main__":
    main()
