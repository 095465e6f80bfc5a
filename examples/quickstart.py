# %% [markdown]
# # Quickstart: the same network with and without regularization
#
# Train a small convolutional network on a few hundred labeled images, with and without the regularization of
# `keras_reg`, and evaluate it on all other images. Everything else stays the same.

# %%
import json
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

EPOCHS = 200
BATCH = 64


# %% [markdown]
# Both runs use the same network, the same optimizer and the same number of steps.


# %%
def network(shape, classes, width=24):
    """A small convolutional network with batch normalization that returns logits."""
    layers = [keras.Input(shape)]
    for block, filters in enumerate((width, 2 * width)):
        for _ in range(2):
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
            layers.append(keras.layers.BatchNormalization(momentum=0.9))
            layers.append(keras.layers.ReLU())
        if block == 0 or shape[0] >= 16:
            layers.append(keras.layers.MaxPooling2D(2))
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)])


# %% [markdown]
# `keras_reg` adds random crops that are resized, erased boxes, CutMix, and label smoothing. The labels stay integers,
# so the metrics do not change.


# %%
def augmentation(size, seed):
    return keras_reg.layers.Pipeline(
        [
            keras_reg.layers.RandomResizedCrop(size, scale=(0.6, 1.0)),
            keras_reg.layers.RandomErasing(rate=0.25, scale=(0.02, 0.1)),
            keras_reg.layers.CutMix(1.0, rate=0.2),
        ],
        seed=seed,
    )


def train(data, regularized, seed, epochs, progress=None):
    """Trains one network. Returns its history and the seconds it took."""
    keras.utils.set_random_seed(seed)
    model = network(data.x_train.shape[1:], data.classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if regularized:
        model = keras_reg.training.RegularizedModel(model, augmentation(data.x_train.shape[1:3], seed))
        loss = keras_reg.losses.LabelSmoothingCrossentropy(0.1, from_logits=True)
    steps = epochs * -(-len(data.x_train) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)), loss, metrics=["accuracy"]
    )
    start = time.perf_counter()
    every = max(1, epochs // 10)
    history = {"accuracy": [], "val_accuracy": [], "epoch": []}
    for epoch in range(0, epochs, every):
        until = min(epoch + every, epochs)
        model.fit(data.x_train, data.y_train, batch_size=BATCH, epochs=until, initial_epoch=epoch, verbose=0)
        history["epoch"].append(until)
        for name, (x, y) in {"": (data.x_train, data.y_train), "val_": (data.x_val, data.y_val)}.items():
            history[f"{name}accuracy"].append(
                model.evaluate(x, y, batch_size=512, verbose=0, return_dict=True)["accuracy"]
            )
        if progress:
            progress(until, history["val_accuracy"][-1])
    return history, time.perf_counter() - start


# %%
def compare(source=None, labeled=200, seeds=(0, 1, 2), epochs=EPOCHS):
    """Trains plain and regularized networks for each seed, which also selects the labeled images."""
    runs = []
    for seed in seeds:
        data = load(source, labeled, seed)
        if not runs:
            size = "x".join(map(str, data.x_train.shape[1:]))
            print(f"{data.name}: {len(data.x_train)} labeled images of {size}, {len(data.x_val)} for validation")
        for regularized in (False, True):
            name = "keras_reg" if regularized else "plain"

            def progress(epoch, accuracy, name=name, seed=seed):
                print(
                    f"\r  {name:9} seed {seed}  epoch {epoch:3}/{epochs}  validation {accuracy:.4f}", end="", flush=True
                )

            history, seconds = train(data, regularized, seed, epochs, progress)
            print(f"  {seconds:5.1f} s")
            runs.append({"run": name, "seed": seed, "seconds": seconds, **history})
    return runs


def table(runs):
    """The results as text: means and standard deviations over the seeds."""
    lines = [f"{'':10} {'train':>15} {'validation':>15} {'gap':>7} {'seconds':>8}"]
    for name in ("plain", "keras_reg"):
        chosen = [run for run in runs if run["run"] == name]
        train, val = (np.array([run[key][-1] for run in chosen]) for key in ("accuracy", "val_accuracy"))
        cells = [
            f"{100 * values.mean():6.2f} ± {values.std(ddof=len(values) > 1) * 100:4.2f} %" for values in (train, val)
        ]
        gap, seconds = 100 * (train - val).mean(), np.mean([run["seconds"] for run in chosen])
        lines.append(f"{name:10} {cells[0]:>15} {cells[1]:>15} {gap:7.2f} {seconds:8.1f}")
    return "\n".join(lines)


# %% [markdown]
# The figure shows the learning curves and the augmented images.


# %%
def draw(runs, data, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), gridspec_kw={"width_ratios": (1, 1.15)})
    for name, color in (("plain", "#888888"), ("keras_reg", "#d0402b")):
        chosen = [run for run in runs if run["run"] == name]
        for key, style in (("accuracy", ":"), ("val_accuracy", "-")):
            curves = 100 * np.array([run[key] for run in chosen])
            label = f"{name}, {'training' if key == 'accuracy' else 'validation'}"
            left.plot(chosen[0]["epoch"], curves.mean(0), style, color=color, label=label)
            left.fill_between(chosen[0]["epoch"], curves.min(0), curves.max(0), color=color, alpha=0.15, lw=0)
    low = 100 * min(run["val_accuracy"][-1] for run in runs)
    left.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(max(0, low - 6), 100.4))
    left.set_title("Mean and range over the seeds")
    left.legend(loc="lower right", frameon=False)
    left.spines[["top", "right"]].set_visible(False)
    right.axis("off")
    right.set_title("Augmented training images with their labels")
    x, y = data.x_train[:BATCH], np.eye(data.classes, dtype="float32")[data.y_train[:BATCH]]
    images, labels = (np.asarray(keras.ops.convert_to_numpy(a)) for a in augmentation(x.shape[1:3], 3)(x, y))
    order = np.argsort(labels.max(axis=1) > 0.995, kind="stable")  # five mixed images if there are as many, then others
    images, labels = (a[np.concatenate([order[:5], order[-5:]])] for a in (images, labels))
    for i in range(len(images)):
        axis = right.inset_axes([0.2 * (i % 5), 0.5 - 0.5 * (i // 5), 0.18, 0.46])
        image = images[i]
        axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        top = [k for k in np.argsort(-labels[i])[:2] if labels[i, k] > 0.005]
        axis.set_title("\n".join(f"{k}: {labels[i, k]:.2f}" for k in top) + "\n" * (2 - len(top)), fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# %%
def main(source=None, labeled=200, seeds=3, epochs=EPOCHS, out="runs", smoke=False):
    if smoke:
        seeds, epochs = 1, 2
    runs = compare(source, labeled, tuple(range(seeds)), epochs)
    print("\n" + table(runs))
    out = pathlib.Path(out)
    draw(runs, load(source, labeled, 0), out / "quickstart.png")
    (out / "quickstart.json").write_text(json.dumps(runs, indent=1))
    print(f"\nLearning curves and augmented images: {out / 'quickstart.png'}")
    return runs


if __name__ == "__main__":
    main(*arguments(__doc__, EPOCHS, "a quick run with one seed and two epochs"))
