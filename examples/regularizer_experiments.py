# %% [markdown]
# # Experiments with stochastic regularizers
#
# Train the same network with and without each layer on a few labeled images, with three seeds. The strengths are the
# usual ones from papers, without tuning. The table also shows where a layer does not help.

# %%
import json
import logging
import os
import pathlib
import sys
import time

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from example_data import arguments, load

import keras_reg
from keras_reg.layers import (
    DropBlock2D,
    DropConnect,
    DropPath,
    FractionalMaxPooling2D,
    GhostBatchNormalization,
    NoisyBatchNormalization,
    WeightNoise,
    drop_path_rates,
)

BATCH = 32
logging.getLogger("tensorflow").setLevel("ERROR")  # many small models, each of which is traced


# %% [markdown]
# Three networks, for the different kinds of layers: a convolutional, a residual and a dense network.


# %%
def convolutional(data, normalization=None, dropped=None, pooling=None):
    """A network with the given normalization, with `dropped()` after each block and `pooling()` between blocks."""
    normalization = normalization or keras.layers.BatchNormalization
    layers = [keras.Input(data.x_train.shape[1:])]
    for block, filters in enumerate((16, 32)):
        for _ in range(2):
            layers += [
                keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
                normalization(momentum=0.9),
                keras.layers.ReLU(),
            ]
        layers += [dropped()] if dropped else []
        if block == 0:
            layers.append((pooling or keras.layers.MaxPooling2D)())
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(data.classes)])


def residual(data, rate=0.0, depth=6):
    inputs = keras.Input(data.x_train.shape[1:])
    x = keras.layers.Conv2D(24, 3, padding="same", strides=2)(inputs)
    for probability in drop_path_rates(rate, depth):
        y = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
        y = keras.layers.Conv2D(24, 3, padding="same")(y)
        x = keras.layers.Add()([x, DropPath(probability)(y) if rate else y])
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, keras.layers.Dense(data.classes)(keras.layers.GlobalAveragePooling2D()(x)))


def dense(data, wrap=lambda layer: layer):
    layers = [keras.Input(data.x_train.shape[1:]), keras.layers.Flatten()]
    layers += [wrap(keras.layers.Dense(256, activation="relu")) for _ in range(2)]
    return keras.Sequential([*layers, keras.layers.Dense(data.classes)])


# %% [markdown]
# Each row has a name, a group, the network, the batch size and optional callbacks. With "all" images in one batch,
# there is no noise from small batches. The name `None` starts a group with the plain network that the others are
# compared with.


# %%
def ramped():
    return DropBlock2D(keras_reg.Strength(0.1), block_size=3)


def penalized(data):
    return keras_reg.surgery.regularize(convolutional(data), kernel_l2=1e-3, dropout=0.3, bn_noise=0.2)


def ramp(epochs):
    """Increases the strength from 0 to 1 over the first half of training. The paper does so over all of training."""
    return [keras_reg.callbacks.StrengthSchedule(lambda epoch: min(1.0, 2 * epoch / epochs))]


EXPERIMENTS = [
    (None, "convolutional, one batch", convolutional, "all"),
    (
        "NoisyBatchNormalization(0.3)",
        "",
        lambda d: convolutional(d, lambda **k: NoisyBatchNormalization(0.3, **k)),
        "all",
    ),
    (
        'NoisyBatchNormalization(noise="statistics", 16)',
        "",
        lambda d: convolutional(d, lambda **k: NoisyBatchNormalization(noise="statistics", virtual_batch_size=16, **k)),
        "all",
    ),
    (
        "GhostBatchNormalization(16)",
        "",
        lambda d: convolutional(d, lambda **k: GhostBatchNormalization(16, **k)),
        "all",
    ),
    (None, f"convolutional, batches of {BATCH}", convolutional, BATCH),
    ("DropBlock2D(0.1, 3)", "", lambda d: convolutional(d, dropped=lambda: DropBlock2D(0.1, block_size=3)), BATCH),
    ("DropBlock2D(Strength(0.1), 3), ramped", "", lambda d: convolutional(d, dropped=ramped), BATCH, ramp),
    (
        "FractionalMaxPooling2D(2 ** 0.5)",
        "",
        lambda d: convolutional(d, pooling=lambda: FractionalMaxPooling2D(2**0.5)),
        BATCH,
    ),
    ("regularize(L2, noise, dropout)", "", penalized, BATCH),
    (None, f"residual, batches of {BATCH}", residual, BATCH),
    ("DropPath, up to 0.2", "", lambda d: residual(d, 0.2), BATCH),
    (None, f"dense, batches of {BATCH}", dense, BATCH),
    ("DropConnect(0.5)", "", lambda d: dense(d, lambda layer: DropConnect(layer, 0.5)), BATCH),
    ("WeightNoise(0.1)", "", lambda d: dense(d, lambda layer: WeightNoise(layer, 0.1)), BATCH),
]


def train(make, data, batch, callbacks, seed, epochs):
    """Accuracies on the validation images and on the training images."""
    keras.utils.set_random_seed(seed)
    model = make(data)
    batch = len(data.x_train) if batch == "all" else batch
    steps = epochs * -(-len(data.x_train) // batch)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(data.x_train, data.y_train, batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks)
    parts = ((data.x_val, data.y_val), (data.x_train, data.y_train))
    return [100 * model.evaluate(x, y, batch_size=512, verbose=0, return_dict=True)["accuracy"] for x, y in parts]


def run_all(source, labeled, seeds, epochs):
    """Rows with the accuracy per seed, and the difference from the plain network with the same seed."""
    rows, plain = [], None
    for name, group, make, batch, *more in EXPERIMENTS:
        start = time.perf_counter()
        found = []
        for seed in seeds:
            data = load(source, labeled, seed)
            callbacks = more[0](epochs) if more else []
            length = epochs if batch != "all" else 2 * epochs  # each epoch is one step
            found.append(train(make, data, batch, callbacks, seed, length))
        validation, training = np.array(found).T
        plain = validation if name is None else plain
        numbers = {"validation": validation, "training": training, "gain": validation - plain}
        row = {"name": name, "group": group, "images": len(data.x_val), **{k: v.tolist() for k, v in numbers.items()}}
        rows.append({**row, "seconds": time.perf_counter() - start})
        print(f"  {name or group:50} {validation.mean():6.2f} %  {rows[-1]['seconds']:5.0f} s", flush=True)
    return rows


def verdict(row):
    """Whether all seeds agree and the mean difference exceeds two standard errors of the accuracy."""
    gain, share = np.array(row["gain"]), np.mean(row["validation"]) / 100
    error = 100 * np.sqrt(2 * share * (1 - share) / (row["images"] * len(gain)))
    if abs(gain.mean()) > 2 * error and abs(np.sign(gain).sum()) == len(gain):
        return "helps" if gain.mean() > 0 else "hurts"
    return "no clear difference"


def table(rows):
    lines = [f"{'':50} {'validation':>15}  {'training':>9}  {'gain, each seed':>22}"]
    for row in rows:
        values = np.array(row["validation"])
        cells = f"{values.mean():6.2f} ± {values.std(ddof=len(values) > 1):4.2f} %  {np.mean(row['training']):7.2f} %"
        if row["name"] is None:
            lines += ["", f"{row['group']:50} {cells}"]
        else:
            gains = " ".join(f"{gain:+6.2f}" for gain in row["gain"])
            lines.append(f"  {row['name']:48} {cells}  {gains:>22}  {verdict(row)}")
    return "\n".join(lines)


def draw(rows, path):
    rows = [row for row in rows if row["name"] is not None][::-1]
    colors = {"helps": "#2a7a3b", "hurts": "#d0402b", "no clear difference": "#888888"}
    figure, axis = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.2))
    for height, row in enumerate(rows):
        color = colors[verdict(row)]
        axis.plot(row["gain"], [height] * len(row["gain"]), "o", color=color, alpha=0.45, mew=0)
        axis.plot(np.mean(row["gain"]), height, "|", color=color, ms=18, mew=2.5)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axis.set_xlabel("gain in validation accuracy over the plain network, in points (dots: seeds, bar: mean)")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


# %%
def main(source=None, labeled=200, seeds=3, epochs=50, out="runs", smoke=False):
    if smoke:
        seeds, epochs, labeled = 1, 1, 40
    data = load(source, labeled, 0)
    size = "x".join(map(str, data.x_train.shape[1:]))
    print(f"{data.name}: {len(data.x_train)} labeled images of {size}, {len(data.x_val)} for validation, {seeds} seeds")
    rows = run_all(source, labeled, range(seeds), epochs)
    print("\n" + table(rows))
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    draw(rows, out / "regularizers.png")
    (out / "regularizers.json").write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main(*arguments(__doc__, 50, "a quick run with one seed and one epoch"))
