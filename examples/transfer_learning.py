# %% [markdown]
# # Comparing transfer learning recipes on a few labeled images
#
# A small residual network is trained on the digits 0 to 4. Then it should classify the digits 5 to 9, with only a few
# training images per digit. The script compares five recipes over three seeds: training from scratch, a head on frozen
# features, a warm-up of the head followed by fine-tuning, immediate fine-tuning, and the warm-up and fine-tuning with
# batch normalization in training mode.
#
# With `--application MobileNetV2`, the backbone is a network of `keras.applications` with its ImageNet weights, which
# are downloaded, and the network learns all classes of the data.

# %%
import argparse
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
from example_data import load

import keras_reg
from keras_reg.transfer import Phase, TransferLearner

EPOCHS = 30  # of each of the two phases
BATCH = 8


# %% [markdown]
# The backbone has residual blocks with batch normalization and ends in a feature vector.


# %%
def backbone_for(shape, width=16):
    inputs = keras.Input(shape)
    x = convolution(inputs, width, 1, "stem")
    for number, filters in enumerate((width, 2 * width, 4 * width)):
        name = f"block{number + 1}"
        shortcut = x
        if number:
            shortcut = keras.layers.Conv2D(filters, 1, strides=2, use_bias=False, name=f"{name}_shortcut")(x)
        x = convolution(x, filters, 2 if number else 1, f"{name}_a")
        x = convolution(x, filters, 1, f"{name}_b")
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="small_resnet")


def convolution(x, filters, strides, name):
    x = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def pretrain(backbone, x, y, epochs):
    """Trains the backbone with a temporary head. Augmentation makes its features more general."""
    network = keras.Sequential([keras.Input(x.shape[1:]), backbone, keras.layers.Dense(int(y.max()) + 1)])
    augmentation = keras_reg.layers.Pipeline([keras_reg.layers.RandomPadCrop(1), keras_reg.layers.MixUp(0.4)], seed=0)
    model = keras_reg.training.RegularizedModel(network, augmentation)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model.evaluate(x, y, batch_size=256, verbose=0)[1]


# %% [markdown]
# All recipes train for the same total number of epochs, with separate learning rates for new and pretrained weights.


# %%
def recipes(epochs, only=None):
    """`{name: (whether pretrained weights are used, phases)}` of all recipes, or of those in `only`."""

    def adam(rate):
        return keras.optimizers.Adam(rate)

    def warm_up(epochs):
        return Phase("warm up", epochs, optimizer=adam(1e-2))

    def fine_tune(epochs, **arguments):
        return Phase("fine-tune", epochs, unfreeze="all", optimizer=adam(1e-3), **arguments)

    found = {
        "from scratch": (False, [fine_tune(2 * epochs, batch_norm=True)]),
        "frozen features": (True, [warm_up(2 * epochs)]),
        "warm up, fine-tune": (True, [warm_up(epochs), fine_tune(epochs)]),
        "fine-tune at once": (True, [fine_tune(2 * epochs)]),
        "warm up, fine-tune,\nbatch norm of batches": (True, [warm_up(epochs), fine_tune(epochs, batch_norm=True)]),
    }
    return {name: recipe for name, recipe in found.items() if only is None or name in only}


# %% [markdown]
# Half of the classes are for pretraining. A few images of each other class are for training, the rest for validation.


# %%
def few(x, y, per_class, seed, most):
    """Two pairs (x, y): `per_class` examples per class, and at most `most` other examples."""
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(y == label))[:per_class] for label in np.unique(y)])
    others = rng.permutation(np.setdiff1d(np.arange(len(y)), chosen))[:most]
    return (x[chosen], y[chosen]), (x[others], y[others])


def everything(source, seed):
    data = load(source, seed=seed)
    x, y = np.concatenate([data.x_train, data.x_val]), np.concatenate([data.y_train, data.y_val])
    return data.name, x, y.astype("int32"), data.classes


def split(source, per_class, seed, most):
    """The name, pairs (x, y) for pretraining, training and validation, and the number of new classes."""
    name, x, y, classes = everything(source, seed)
    old = classes // 2
    new = y >= old
    learn, judge = few(x[new], y[new] - old, per_class, seed, most)
    return name, (x[~new], y[~new]), learn, judge, classes - old


# %%
def run_small(source, per_class, seed, epochs, pretraining, most, only):
    """Yields (recipe, learner, phases, training data, validation data) for all recipes."""
    _, old, learn, judge, classes = split(source, per_class, seed, most)
    keras.utils.set_random_seed(seed)
    pretrained = backbone_for(old[0].shape[1:])
    reached = pretrain(pretrained, *old, pretraining)
    print(f"seed {seed}: pretrained on {len(old[0])} images, accuracy {100 * reached:.1f} %")
    for name, (uses, phases) in recipes(epochs, only).items():
        keras.utils.set_random_seed(seed)
        backbone = backbone_for(old[0].shape[1:])
        if uses:
            backbone.set_weights(pretrained.get_weights())
        learner = TransferLearner(backbone, classes)
        yield name, learner, phases, learn, judge


def run_application(application, weights, size, source, per_class, seed, epochs, most, only):
    """The same with a network of `keras.applications` and its preprocessing, on all classes."""
    _, x, y, classes = everything(source, seed)
    x = 255 * np.repeat(x, 3, -1) if x.shape[-1] == 1 else 255 * x
    learn, judge = few(x, y, per_class, seed, most)
    learn, judge = ((keras.ops.convert_to_numpy(keras.ops.image.resize(x, (size, size))), y) for x, y in (learn, judge))
    make = getattr(keras.applications, application)
    for name, (uses, phases) in recipes(epochs, only).items():
        keras.utils.set_random_seed(seed)
        backbone = make(include_top=False, weights=weights if uses else None, input_shape=(size, size, 3))
        yield name, TransferLearner(backbone, classes, preprocess="auto"), phases, learn, judge


def compare(runs_of_seed, seeds, every):
    """Runs all recipes for all seeds."""
    results = []
    for seed in seeds:
        for name, learner, phases, learn, judge in runs_of_seed(seed):
            start = time.perf_counter()
            history = learner.fit(
                learn,
                validation_data=judge,
                phases=phases,
                batch_size=BATCH,
                seed=seed,
                validation_freq=every,
                validation_batch_size=256,
                verbose=0,
            )
            curve = history.history["val_accuracy"]
            points = [(epoch + 1, value) for epoch, value in enumerate(curve) if value is not None]
            seconds = time.perf_counter() - start
            print(f"  {name.splitlines()[0]:20} {100 * points[-1][1]:6.2f} %  {seconds:5.1f} s", flush=True)
            results.append({"recipe": name, "seed": seed, "curve": points, "seconds": seconds})
    return results


def table(results):
    """The results as text: means and standard deviations over the seeds."""
    lines = [f"{'recipe':45} {'accuracy':>17} {'seconds':>8}"]
    for name in dict.fromkeys(result["recipe"] for result in results):
        chosen = [result for result in results if result["recipe"] == name]
        final = 100 * np.array([result["curve"][-1][1] for result in chosen])
        cell = f"{final.mean():6.2f} ± {final.std(ddof=len(final) > 1):4.2f} %"
        seconds = np.mean([result["seconds"] for result in chosen])
        lines.append(f"{name.replace(chr(10), ' '):45} {cell:>17} {seconds:8.1f}")
    return "\n".join(lines)


# %% [markdown]
# The figure shows the final accuracies and the learning curves.


# %%
COLORS = ("#888888", "#3b76af", "#d0402b", "#e59a3c", "#7a52a3")


def draw(results, epochs, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), gridspec_kw={"width_ratios": (1, 1.2)})
    names = list(dict.fromkeys(result["recipe"] for result in results))
    for row, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        curves = [result["curve"] for result in results if result["recipe"] == name]
        final = 100 * np.array([curve[-1][1] for curve in curves])
        left.barh(row, final.mean(), color=color, alpha=0.35, height=0.6)
        left.plot(final, [row] * len(final), "o", color=color, markersize=5)
        left.annotate(f"{final.mean():.1f} %", (2, row), va="center", fontsize=9)
        xs = [epoch for epoch, _ in curves[0]]
        mean = 100 * np.mean([[value for _, value in curve] for curve in curves], axis=0)
        right.plot(xs, mean, marker=".", color=color, label=name.replace("\n", " "))
    left.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 100), xlabel="accuracy on new classes (%)")
    left.invert_yaxis()
    left.set_title("Final accuracy: mean and each seed")
    right.axvline(epochs + 0.5, color="#888888", linestyle="--", linewidth=1)
    note = "  fine-tuning starts\n  after a warm-up"
    right.annotate(note, (epochs + 0.5, 0.03), xycoords=("data", "axes fraction"), fontsize=8, color="#555555")
    right.set(xlabel="epoch", ylabel="accuracy on new classes (%)")
    right.set_title("Learning curves: mean over the seeds")
    right.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 0.12))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# %%
def main(
    source=None,
    application=None,
    weights="imagenet",
    size=96,
    per_class=3,
    seeds=3,
    epochs=EPOCHS,
    out="runs",
    only=None,
    smoke=False,
):
    pretraining, most = 20, None
    if smoke:
        seeds, epochs, pretraining, per_class, most = 1, 2, 1, 2, 50
        size = 32 if application else size
    name = everything(source, 0)[0]
    print(f"{name}: {per_class} labeled images per new class, backbone {application or 'small_resnet'}")

    def runs(seed):
        if application:
            return run_application(application, weights, size, source, per_class, seed, epochs, most, only)
        return run_small(source, per_class, seed, epochs, pretraining, most, only)

    results = compare(runs, range(seeds), every=max(1, epochs // 6))
    print("\n" + table(results))
    out = pathlib.Path(out)
    draw(results, epochs, out / "transfer.png")
    (out / "transfer.json").write_text(json.dumps(results, indent=1))
    print(f"\nFigure: {out / 'transfer.png'}")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compares five transfer learning recipes.")
    parser.add_argument("--data", help="image folder, .npz with x_train ... y_test, or tfds:NAME (default: digits)")
    parser.add_argument("--application", help="a network of keras.applications, such as MobileNetV2")
    parser.add_argument("--weights", default="imagenet", help="its weights: imagenet (downloaded), none, or a file")
    parser.add_argument("--size", type=int, default=96, help="side of its images (default: 96)")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), help="default: tensorflow")
    parser.add_argument("--per-class", type=int, default=3, help="labeled images per class (default: 3)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of each of the two phases")
    parser.add_argument("--out", default="runs", help="folder for the figure and the results (default: runs)")
    parser.add_argument("--smoke", action="store_true", help="a quick run with one seed and two epochs")
    given = parser.parse_args()
    main(
        given.data,
        given.application,
        None if given.weights == "none" else given.weights,
        given.size,
        given.per_class,
        given.seeds,
        given.epochs,
        given.out,
        smoke=given.smoke,
    )
