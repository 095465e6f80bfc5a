# %% [markdown]
# # One picture per method
#
# Each picture is drawn by calling the library on two photographs and the digits of scikit-learn, or by a short training
# run. If a layer changes, so does its picture.

# %%
import argparse
import pathlib
import tempfile

import inference_pictures  # noqa: F401 (its functions are in PICTURES)
import keras
import matplotlib.pyplot as plt
import numpy as np
import step_pictures  # noqa: F401 (its functions are in PICTURES)
from pictures import (
    BLUE,
    GREEN,
    GREY,
    NAMES,
    PICTURES,
    RED,
    array,
    curves,
    keep,
    photos,
    picture,
    save,
    shares,
    strip,
)
from sklearn.datasets import load_digits

import keras_reg
from keras_reg import callbacks, layers, losses

# %% [markdown]
# Images and labels.


# %%
@picture
def random_erasing():
    flower = photos()[1:]
    settings = {
        "original": {"rate": 0},
        "constant": {},
        "channel_noise": {"fill": "channel_noise", "value_range": (0, 1)},
        "pixel_noise": {"fill": "pixel_noise", "value_range": (0, 1)},
        "count=(2, 5)": {"count": (2, 5)},
    }
    given = {"rate": 1, "scale": (0.15, 0.3), "seed": 5}
    return strip([array(layers.RandomErasing(**{**given, **s})(flower))[0] for s in settings.values()], settings)


def mixed(layer, count):
    """The first `count` mixed images of both photographs, and their labels."""
    found = [layer(photos(), np.eye(2, dtype="float32")) for _ in range(-(-count // 2))]
    images, labels = (np.concatenate([array(pair[i]) for pair in found])[:count] for i in (0, 1))
    return images, labels


@picture
def mix_up():
    images, labels = mixed(layers.MixUp(1.0, seed=5), 3)
    return strip([*photos(), *images], [*NAMES, *map(shares, labels)])


@picture
def cut_mix():
    images, labels = mixed(layers.CutMix(1.0, seed=8), 3)
    return strip([*photos(), *images], [*NAMES, *map(shares, labels)])


@picture
def random_choice():
    layer = layers.RandomChoice([layers.MixUp(1.0), layers.CutMix(1.0)], mode="sample", seed=11)
    images, labels = mixed(layer, 5)
    return strip(images, map(shares, labels))


@picture
def random_apply():
    batch = np.repeat(photos()[1:], 5, axis=0)
    result = array(layers.RandomApply(keras.layers.RandomGrayscale(1.0), rate=0.5, seed=2)(batch))
    return strip(result, ["original" if (a == b).all() else "applied" for a, b in zip(result, batch, strict=True)])


@picture
def batch_augmentation():
    class RandomNegative(layers.BatchAugmentation):
        moves_pixels = False

        def transform_images(self, images, transformation, batch):
            return 1 - images

    batch = np.repeat(photos()[1:], 5, axis=0)
    result = array(RandomNegative(rate=0.5, seed=2)(batch))
    return strip(result, ["original" if (a == b).all() else "applied" for a, b in zip(result, batch, strict=True)])


@picture
def pipeline():
    steps = [
        layers.RandomResizedCrop(160, scale=(0.4, 1.0)),
        keras.layers.RandomFlip("horizontal", seed=1),
        layers.RandomErasing(rate=0.5, scale=(0.05, 0.15)),
        layers.CutMix(1.0, rate=0.5),
    ]
    images, labels = mixed(layers.Pipeline(steps, seed=1), 5)
    return strip(images, map(shares, labels))


@picture
def random_affine():
    batch = np.repeat(photos()[:1], 2, axis=0)
    turned = array(layers.RandomAffine(rotation=30, fill_value=0.5, seed=1)(batch))
    changed = array(layers.RandomAffine(30, 0.1, 0.3, 0.2, fill_mode="reflect", seed=2)(batch))
    titles = ["original", *["rotation, constant"] * 2, *["all four, reflect"] * 2]
    return strip([batch[0], *turned, *changed], titles)


@picture
def random_flip():
    image = photos()[0]
    found = array(layers.RandomFlip("horizontal_and_vertical", seed=7)(np.repeat(image[None], 4, axis=0)))
    names = {"neither": image, "horizontal": image[:, ::-1], "vertical": image[::-1], "both": image[::-1, ::-1]}
    titles = [next(name for name, expected in names.items() if (one == expected).all()) for one in found]
    return strip([image, *found], ["original", *titles])


@picture
def color_jitter():
    image = photos()[:1]
    changes = {"brightness": 0.5, "contrast": 0.7, "saturation": 1.0, "hue": 0.15}
    found = [array(layers.ColorJitter(**{name: (x, x)}, value_range=(0, 1))(image))[0] for name, x in changes.items()]
    return strip([image[0], *found], ["original", *(f"{name} {x:+}" for name, x in changes.items())])


@picture
def random_grayscale():
    batch = np.repeat(photos(), 2, axis=0)
    found = array(layers.RandomGrayscale(rate=0.5, seed=25)(batch))
    return strip(found, ["gray" if np.ptp(image, axis=-1).max() == 0 else "unchanged" for image in found])


@picture
def rand_augment():
    image, magnitudes = photos()[:1], (5, 9, 15, 30)
    found = [array(layers.RandAugment(2, m, value_range=(0, 1), fill_value=0.5, seed=7)(image))[0] for m in magnitudes]
    return strip([image[0], *found], ["original", *(f"magnitude {m}" for m in magnitudes)])


@picture
def trivial_augment_wide():
    batch = np.repeat(photos()[:1], 5, axis=0)
    found = array(layers.TrivialAugmentWide(value_range=(0, 1), fill_value=0.5, seed=9)(batch))
    return strip([batch[0], *found], ["original", *[f"draw {i + 1}" for i in range(5)]])


@picture
def auto_augment():
    batch = np.repeat(photos()[:1], 5, axis=0)
    found = array(layers.AutoAugment("imagenet", value_range=(0, 1), fill_value=0.5, seed=3)(batch))
    return strip([batch[0], *found], ["original", *[f"draw {i + 1}" for i in range(5)]])


@picture
def aug_mix():
    batch = np.repeat(photos()[:1], 5, axis=0)
    found = array(layers.AugMix(severity=5, value_range=(0, 1), fill_value=0.5, seed=1)(batch))
    return strip([batch[0], *found], ["original", *[f"draw {i + 1}" for i in range(5)]])


@picture
def random_sharpness():
    image = photos(320)[:1, 40:200, 80:240]
    changes = (-1.0, 1.0, 3.0, 9.0)
    found = [array(layers.RandomSharpness((x, x), value_range=(0, 1))(image))[0] for x in changes]
    return strip([image[0], *found], ["original", *(f"sharpness {x:+g}" for x in changes)])


@picture
def random_gaussian_blur():
    image, sigmas = photos()[:1], (0.5, 1.0, 2.0, 4.0)
    found = [array(layers.RandomGaussianBlur(sigma, rate=1.0)(image))[0] for sigma in sigmas]
    return strip([image[0], *found], ["original", *(f"sigma={sigma:g}" for sigma in sigmas)])


@picture
def random_gaussian_noise():
    image, deviations = photos()[:1], (0.03, 0.1, 0.2, 0.4)
    noisy = [layers.RandomGaussianNoise(stddev, 1.0, clip=(0, 1), seed=1) for stddev in deviations]
    titles = ["original", *(f"stddev={stddev:g}" for stddev in deviations)]
    return strip([image[0], *(array(layer(image))[0] for layer in noisy)], titles)


@picture
def random_pad_crop():
    batch = np.repeat(photos()[:1], 2, axis=0)
    black = array(layers.RandomPadCrop(32, seed=1)(batch))
    mirrored = array(layers.RandomPadCrop(32, fill_mode="reflect", seed=1)(batch))
    return strip([batch[0], *black, *mirrored], ["original", *["constant"] * 2, *["reflect"] * 2])


@picture
def random_resized_crop():
    batch = np.repeat(photos(320)[:1], 4, axis=0)
    crops = array(layers.RandomResizedCrop(160, scale=(0.08, 0.6), seed=3)(batch))
    return strip([batch[0], *crops], ["original, 320 x 320", *["crop, 160 x 160"] * 4])


@picture
def pca_color_jitter():
    batch = np.repeat(photos()[:1], 2, axis=0)
    titles, images = ["original"], [batch[0]]
    for stddev in (0.1, 0.5):
        layer = layers.PCAColorJitter(stddev, value_range=(0, 1), seed=6).adapt(photos())
        images += list(array(layer(batch)))
        titles += [f"stddev={stddev}"] * 2
    return strip(images, titles)


@picture
def label_noise():
    labels = np.sort(np.arange(240) % 10)
    noisy = array(layers.LabelNoise(0.2, num_classes=10, seed=1)(np.zeros((240, 1, 1, 1)), labels)[1])
    figure, axes = curves(8.4, 2.3, 2)
    for axis, values, title in zip(axes, (labels, noisy), ("240 labels of ten classes", "rate=0.2"), strict=True):
        axis.imshow(values.reshape(10, 24), cmap="tab10", vmin=0, vmax=9, aspect="auto")
        share = f": {(values != labels).mean():.0%} have another class" if (values != labels).any() else ""
        axis.set_title(title + share, fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    return figure


# %% [markdown]
# Layers inside the network. A grayscale photograph serves as a feature map.


# %%
def maps(count, size=160):
    """(count, size, size, 1): the two photographs in grayscale, alternating."""
    return np.resize(photos(size).mean(-1, keepdims=True), (count, size, size, 1))


@picture
def noisy_batch_normalization():
    batch = maps(64, 80)
    batch = batch * np.linspace(0.6, 1.4, 64)[:, None, None, None]
    output = layers.NoisyBatchNormalization(0.5, seed=1)
    batches = layers.NoisyBatchNormalization(noise="statistics", virtual_batch_size=2, seed=2)
    found = {
        "BatchNormalization": keras.layers.BatchNormalization()(batch, training=True),
        'noise="output", 0.5': output(batch, training=True),
        **{f'"statistics" of 2, call {i}': batches(batch, training=True) for i in (1, 2, 3)},
    }
    return strip([array(x)[32, ..., 0] for x in found.values()], found, cmap="gray", limits=(-2, 2))


@picture
def ghost_batch_normalization():
    rng = np.random.default_rng(0)
    levels = np.repeat([-1.5, 0.5, 2.0, -0.5], 16)  # four parts of the batch whose means differ
    batch = (levels + rng.normal(scale=np.repeat([0.5, 1, 0.7, 1.5], 16))).astype("float32")[:, None]
    plain = keras.layers.BatchNormalization()(batch, training=True)
    ghost = layers.GhostBatchNormalization(16)(batch, training=True)
    figure, axes = curves(8.4, 2.6, 3)
    titles = ("one channel of a batch of 64", "BatchNormalization", "GhostBatchNormalization(16)")
    for axis, values, title in zip(axes, (batch, plain, ghost), titles, strict=True):
        for part in range(4):
            of_part = slice(16 * part, 16 * part + 16)
            axis.plot(np.arange(64)[of_part], array(values)[of_part, 0], ".", color=f"C{part}", ms=5)
            axis.hlines(array(values)[of_part].mean(), 16 * part, 16 * part + 15, color=f"C{part}", lw=2)
        axis.axhline(0, color="black", lw=0.6)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("example")
    figure.tight_layout()
    return figure


@picture
def drop_path():
    batch = 0.5 * np.resize(photos(), (5, 160, 160, 3))
    result = array(layers.DropPath(0.4, seed=2)(batch, training=True))
    return strip(result, ["dropped" if x.max() == 0 else "times 1 / 0.6" for x in result])


@picture
def drop_block_2d():
    batch = photos()[:1]
    found = {
        "a feature map": batch,
        "Dropout(0.2)": keras.layers.Dropout(0.2, seed=1)(batch, training=True),
        "DropBlock2D(0.2, 7)": layers.DropBlock2D(0.2, 7, per_channel=False, seed=1)(batch, training=True),
        "DropBlock2D(0.2, 31)": layers.DropBlock2D(0.2, 31, per_channel=False, seed=1)(batch, training=True),
        "per_channel=True": layers.DropBlock2D(0.2, 31, seed=1)(batch, training=True),
    }
    return strip([array(x)[0] for x in found.values()], found)


def kernels(wrapper, strength):
    """Shows the kernel that a wrapped layer uses, by passing the identity, in inference and in three training calls."""
    x = np.linspace(-1, 1, 20)
    layer = wrapper(keras.layers.Dense(20, use_bias=False), strength, seed=1)
    layer.build((None, 20))
    layer.set_weights([np.sin(4 * x)[:, None] * np.cos(3 * x + 1) + 0.4 * x])
    seen = [array(layer(np.eye(20, dtype="float32"), training=training)) for training in (False, True, True, True)]
    titles = ["stored (inference)", "training call 1", "training call 2", "training call 3"]
    return strip(seen, titles, cmap="RdBu", limits=(-1.6, 1.6))


@picture
def drop_connect():
    return kernels(layers.DropConnect, 0.4)


@picture
def weight_noise():
    return kernels(layers.WeightNoise, 0.25)


@picture
def fractional_max_pooling_2d():
    side = 20
    image = photos(side)[1]
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    x = np.concatenate([image, rows[..., None], columns[..., None]], -1).astype("float32")[None]
    pseudo, random = layers.FractionalMaxPooling2D(1.7, seed=1), layers.FractionalMaxPooling2D(1.7, False, seed=3)
    calls = {"inference": (pseudo, False), "pseudo-random regions": (pseudo, True), "random regions": (random, True)}
    figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.3))
    for axis, (title, (layer, training)) in zip(axes, calls.items(), strict=False):
        pooled = array(layer(x, training=training))[0]
        last_row, last_column = pooled[:-1, 0, 3], pooled[0, :-1, 4]  # the largest index in each region
        axis.imshow(image)
        axis.hlines(last_row + 0.5, -0.5, side - 0.5, color="white", lw=1)
        axis.vlines(last_column + 0.5, -0.5, side - 0.5, color="white", lw=1)
        axis.set_title(title, fontsize=9)
    axes[3].imshow(pooled[..., :3])
    axes[3].set_title(f"result, {pooled.shape[0]} x {pooled.shape[1]}", fontsize=9)
    for axis in axes:
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    return figure


# %% [markdown]
# The loss, the training step and models.


# %%
@picture
def label_smoothing_crossentropy():
    margin = np.linspace(-2, 12, 200)
    logits = np.stack([margin, *[np.zeros_like(margin)] * 9], -1)
    figure, (left, right) = curves(8.4, 2.8, 2)
    for smoothing, color in ((0.0, GREY), (0.1, BLUE), (0.3, RED)):
        loss = array(losses.label_smoothing_crossentropy(np.zeros(200, "int32"), logits, smoothing, from_logits=True))
        left.plot(margin, loss, color=color, label=f"label_smoothing={smoothing}")
        if smoothing:
            left.plot(margin[loss.argmin()], loss.min(), "o", color=color)
        right.bar(
            np.arange(10) + {0.0: -0.27, 0.1: 0, 0.3: 0.27}[smoothing],
            (1 - smoothing) * np.eye(10)[0] + smoothing / 10, width=0.25, color=color,
        )  # fmt: skip
    left.set(xlabel="logit of the true class (nine other logits are 0)", ylabel="loss", ylim=(0, 5))
    left.legend(frameon=False, fontsize=9)
    right.set(xlabel="class", ylabel="target", xticks=range(10))
    figure.tight_layout()
    return figure


@picture
def regularized_model():
    network = keras.Sequential([keras.Input((160, 160, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    steps = [layers.RandomErasing(rate=0.5, scale=(0.05, 0.15)), layers.CutMix(1.0)]
    model = keras_reg.training.RegularizedModel(network, layers.Pipeline(steps, seed=10))
    x, y = np.resize(photos(), (4, 160, 160, 3)), np.arange(4) % 2
    seen, mixture, _ = model.augment(x, y)
    first, second = (array(labels) for labels in mixture.labels)
    weights = array(mixture.weights).T
    below = [f"{w:.2f} loss({a}) +\n{v:.2f} loss({b})" for a, b, w, v in zip(first, second, *weights, strict=True)]
    return strip([*x, *array(seen)], [f"y = {label}" for label in y] + below, per_row=4)


@picture
def penalty():
    class SmallOutputs(keras_reg.training.Penalty):
        def compute(self, step, x, y, y_pred, sample_weight):
            return keras.ops.mean(keras.ops.square(y_pred))

    digits = load_digits()
    figure, axes = curves(7.0, 2.3, 2)
    for weight, color in ((0.0, GREY), (0.01, BLUE), (0.1, RED)):
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
        model = keras_reg.training.RegularizedModel(network, penalties=[SmallOutputs(weight)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = model.fit(digits.data / 16, digits.target, epochs=8, verbose=0).history
        for axis, name in zip(axes, ("loss", "small_outputs"), strict=True):
            axis.plot(history[name], color=color, label=f"weight {weight}")
            axis.set(xlabel="epoch", ylabel=name)
    axes[1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


@picture
def regularize():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    y = keras.layers.ReLU(name="relu")(x)
    y = keras.layers.Conv2D(8, 3, padding="same", name="branch")(y)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Add(name="add")([x, y]))
    model = keras.Model(inputs, keras.layers.Dense(10, name="head")(x))
    other = keras_reg.surgery.regularize(model, kernel_l2=5e-4, bn_noise=0.1, dropout=0.2, drop_path=0.1)
    figure, axis = plt.subplots(figsize=(8.4, 2.2))
    for height, network, name in ((1, model, "model"), (0, other, "regularize(model, ...)")):
        axis.text(-0.5, height + 0.42, name, fontsize=9, weight="bold")
        axis.hlines(height, 0, len(network.layers) - 2, color="#bbbbbb", zorder=0)
        for place, layer in enumerate(network.layers[1:]):
            plain = layer.name in [old.name for old in model.layers] and type(layer) is type(
                model.get_layer(layer.name)
            )
            penalty = getattr(layer, "kernel_regularizer", None) is not None
            color = RED if not plain else BLUE if penalty else "#eeeeee"
            text = type(layer).__name__.replace("Normalization", "\nNorm").replace("Global", "Global\n")
            axis.text(
                place, height, text.replace("Pooling2D", "\nPooling") + ("\n+ L2" if penalty else ""),
                ha="center", va="center", fontsize=7, color="black" if color == "#eeeeee" else "white",
                bbox={"boxstyle": "round,pad=0.45", "fc": color, "ec": "#bbbbbb"},
            )  # fmt: skip
    axis.set(xlim=(-0.7, len(other.layers) - 1.4), ylim=(-0.5, 1.75))
    axis.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


# %% [markdown]
# Callbacks, applied to a simulated validation curve, a learning rate, or short training runs on the digits.


# %%
def driven(callback, logs):
    """The logs of each epoch after `callback` received them, until it stopped training."""
    model, seen = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), []
    model.compile("sgd", "mse")
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, entry in enumerate(logs):
        seen.append(dict(entry))
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, seen[-1])
        if model.stop_training:
            break
    return seen


@picture
def smoothed_early_stopping():
    rng, t = np.random.default_rng(7), np.arange(80)
    truth = 0.35 + np.exp(-t / 15) + 0.004 * np.maximum(t - 35, 0)
    noisy = truth + rng.normal(scale=0.06, size=80)
    logs = [{"loss": 0.0, "val_loss": float(v)} for v in noisy]
    ours = callbacks.SmoothedEarlyStopping(patience=8)
    smooth = driven(ours, logs)
    theirs = keras.callbacks.EarlyStopping(patience=8, restore_best_weights=True, mode="min")
    ended = len(driven(theirs, logs)) - 1
    figure, axis = curves()
    axis.plot(t, noisy, color="#bbbbbb", lw=1, label="val_loss")
    axis.plot(t, truth, color="black", lw=1, ls=":", label="val_loss without noise")
    axis.plot([entry["smoothed_val_loss"] for entry in smooth], color=RED, label="smoothed_val_loss (ema, 0.6)")
    for best, end, color, name in (
        (theirs.best_epoch, ended, BLUE, "EarlyStopping"),
        (ours.best_epoch, ours.stopped_epoch, RED, "SmoothedEarlyStopping"),
    ):
        axis.axvline(end, color=color, lw=1, ls="--")
        axis.plot(best, truth[best], "o", color=color, ms=8, label=f"{name}: restores {best}, stops at {end}")
    axis.set(xlabel="epoch", ylabel="loss")
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


@picture
def exponential_lr():
    settings = {
        "gamma=0.96": {},
        "gamma=0.9": {"gamma": 0.9},
        "gamma=0.96, warmup_epochs=10": {"warmup_epochs": 10},
        "gamma=0.9, min_learning_rate=2e-4": {"gamma": 0.9, "min_learning_rate": 2e-4},
    }
    figure, axis = curves()
    for name, given in settings.items():
        callback = callbacks.ExponentialLR(initial_learning_rate=1e-3, **given)
        rates = [entry["learning_rate"] for entry in driven(callback, [{}] * 60)]
        axis.plot(rates, label=name)
    axis.set(xlabel="epoch", ylabel="learning rate", ylim=(0, 1.05e-3))
    axis.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


def digits_and_network(activation="relu", depth=3, rate=0.1):
    keras.utils.set_random_seed(1)
    x, y = load_digits(return_X_y=True)
    hidden = [keras.layers.Dense(32, activation, name=f"dense_{i + 1:02}") for i in range(depth)]
    network = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, name="head")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    return (x / 16).astype("float32"), y, network


@picture
def gradient_histograms():
    figure, axes = curves(8.4, 3.0, 2)
    for axis, activation in zip(axes, ("sigmoid", "relu"), strict=True):
        x, y, network = digits_and_network(activation, 10)
        gradients = callbacks.GradientHistograms(include="*kernel")
        network.fit(x, y, epochs=1, batch_size=64, verbose=0, callbacks=[gradients])
        found = gradients.history["gradients"][0]["variables"]
        counts = np.array([one["counts"] for one in found.values()], "float64")
        positive = counts[:, counts.shape[1] // 2 :] + counts[:, : counts.shape[1] // 2][:, ::-1]
        edges = np.log10(gradients.edges[gradients.edges > 0][:-1])
        axis.imshow(
            positive[:, : len(edges)] / counts.sum(1, keepdims=True), aspect="auto", cmap="Reds",
            extent=(edges[0], edges[-1], len(counts) + 0.5, 0.5),
        )  # fmt: skip
        axis.set(title=f"ten layers, {activation}", xlabel="log10 |gradient|", ylabel="layer", xlim=(-15, 1))
    figure.tight_layout()
    return figure


@picture
def divergence_stop():
    figure, axis = curves()
    for rate, color in ((0.1, GREEN), (0.5, BLUE), (3.0, "#d08a2b"), (30.0, RED)):
        x, y, network = digits_and_network(depth=1, rate=rate)
        stop = callbacks.DivergenceStop(per="step", verbose=0)
        values = []
        watch = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, to=values: to.append(logs["loss"])
        )
        network.fit(x, y, epochs=1, batch_size=32, verbose=0, callbacks=[watch, stop])
        axis.plot(values, color=color, label=f"learning rate {rate:g}" + (", stopped" if stop.diverged else ""))
        if stop.diverged:
            axis.plot(len(values) - 1, values[-1], "X", color=color, ms=9)
    axis.set(xlabel="step", ylabel="loss, running mean of the epoch", yscale="log")
    axis.legend(frameon=False, fontsize=9, loc="center right")
    figure.tight_layout()
    return figure


@picture
def strength_schedule():
    layer = layers.DropBlock2D(keras_reg.Strength(0.3), 21, per_channel=False, seed=1)
    layer.build((None, 160, 160, 3))
    callback = callbacks.StrengthSchedule(lambda epoch: min(1.0, epoch / 20), layers=[layer])
    strengths, images = [], []
    for epoch in range(40):
        callback.on_epoch_begin(epoch)
        strengths.append(float(array(layer.weights[0])))
        if epoch in (0, 10, 30):
            images.append(array(layer(photos()[1:], training=True))[0])
    figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.3), gridspec_kw={"width_ratios": (1.5, 1, 1, 1)})
    axes[0].plot(strengths, color=RED)
    axes[0].set(xlabel="epoch", ylabel="rate of the layer")
    axes[0].spines[["top", "right"]].set_visible(False)
    for axis, image, epoch in zip(axes[1:], images, (0, 10, 30), strict=True):
        axis.imshow(np.clip(image, 0, 1))
        axis.set_title(f"epoch {epoch}", fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    return figure


@picture
def weight_average():
    figure, axis = curves()
    for name, used, color in (("trained weights", False, GREY), ("their average", True, RED)):
        x, y, network = digits_and_network(rate=0.1)
        average = [callbacks.WeightAverage(decay=0.995, swap="validation")] if used else []
        history = network.fit(
            x[:600], y[:600], validation_data=(x[600:], y[600:]), batch_size=4, epochs=30, callbacks=average, verbose=0
        ).history
        axis.plot(np.arange(1, 31), history["val_accuracy"], color=color, label=name)
    axis.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0.8, 0.95))
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    figure.tight_layout()
    return figure


class Killed(Exception):
    pass


@picture
def persist():
    def run(folder=None, kill_at=None):
        x, y, network = digits_and_network()
        added = [callbacks.SmoothedEarlyStopping("loss", patience=50), callbacks.ExponentialLR(0.9)]
        if kill_at is not None:
            added.append(keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: kill(epoch, kill_at)))
        chosen = added if folder is None else callbacks.persist(added, folder)
        try:
            options = {"epochs": 24, "batch_size": 128, "shuffle": False, "verbose": 0}
            return network.fit(x, y, callbacks=chosen, **options).history
        except Killed:
            return None

    def kill(epoch, at):
        if epoch == at:
            raise Killed

    with tempfile.TemporaryDirectory() as folder:
        whole = run()
        run(folder, kill_at=10)
        resumed = run(folder)
    figure, axes = curves(8.4, 2.8, 2)
    for axis, name in zip(axes, ("smoothed_loss", "learning_rate"), strict=True):
        axis.plot(whole[name], color="#bbbbbb", lw=6, label="uninterrupted")
        axis.plot(resumed[name], color=RED, label="killed in epoch 10 and resumed")
        axis.axvline(10, color="black", lw=0.6, ls=":")
        axis.set(xlabel="epoch", ylabel=name)
    axes[0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


@picture
def transfer_learner():
    keras.utils.set_random_seed(2)
    x, y = load_digits(return_X_y=True)
    x, old = (x.reshape(-1, 8, 8, 1) / 16).astype("float32"), y < 5
    blocks = [keras.layers.Conv2D(16 * i, 3, padding="same", activation="relu", name=f"conv{i}") for i in (1, 2)]
    backbone = keras.Sequential([keras.Input((8, 8, 1)), *blocks, keras.layers.MaxPooling2D(), keras.layers.Flatten()])
    first = keras.Sequential([backbone, keras.layers.Dense(5)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    first.compile("adam", loss)
    first.fit(x[old], y[old], epochs=20, batch_size=64, verbose=0)
    new, labels = x[~old], y[~old] - 5
    learner = keras_reg.transfer.TransferLearner(backbone, 5)
    phases = [
        keras_reg.transfer.Phase("warm up", 12),
        keras_reg.transfer.Phase("fine-tune", 12, "all", keras.optimizers.SGD(1e-2)),
    ]
    validation = (new[100:], labels[100:])
    learner.fit((new[:100], labels[:100]), validation_data=validation, phases=phases, batch_size=8, verbose=0)
    figure = learner.plot()
    figure.set_size_inches(8.4, 3.0)
    return figure


# %% [markdown]
# The four learning curves of the guide "Choosing a regularizer", from short training runs on the digits.


# %%
def trained(units, optimizer, count=100, judged=1000, noise=0.0, epochs=80):
    """The history of a dense network on `count` digits, with a share `noise` of the labels redrawn."""
    x, y, _ = digits_and_network()
    labels = array(layers.LabelNoise(noise, num_classes=10, seed=1)(np.zeros((len(y), 1, 1, 1)), y)[1])
    hidden = [keras.layers.Dense(units, "relu") for _ in range(2)]
    network = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    network.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    validation = (x[-judged:], y[-judged:])
    options = {"epochs": epochs, "batch_size": 20, "verbose": 0, "validation_data": validation}
    return network.fit(x[:count], labels[:count], **options).history


@picture
def learning_curves():
    found = {
        "A: wide gap": (trained(128, "adam"), "accuracy"),
        "B: no gap, both low": (trained(4, "adam", count=700, epochs=20), "accuracy"),
        "C: validation loss rises": (trained(128, "adam", noise=0.3), "loss"),
        "D: validation jumps": (
            trained(64, keras.optimizers.SGD(0.12, 0.9), count=500, judged=60, epochs=50),
            "accuracy",
        ),
    }
    figure, axes = curves(8.6, 2.5, 4)
    for axis, (title, (history, name)) in zip(axes, found.items(), strict=True):
        axis.plot(history[name], color=GREY, label="training")
        axis.plot(history[f"val_{name}"], color=RED, label="validation")
        axis.set(ylim=(0, 1.03) if name == "accuracy" else (0, 3))
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylabel(name, fontsize=8)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.tight_layout(w_pad=0.4)
    return figure


def main(names=(), out="docs/figures/methods", smoke=False, results=None):
    chosen = names or list(PICTURES)
    for name in ["mix_up", "drop_block_2d"] if smoke else chosen:
        keras.utils.set_random_seed(0)
        path = pathlib.Path(out) / f"{name}.png"
        save(PICTURES[name](), path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    if results:
        keep(pathlib.Path(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="pictures to draw (default: all)")
    parser.add_argument("--out", default="docs/figures/methods", help="folder (default: docs/figures/methods)")
    parser.add_argument("--json", help="file that receives the numbers of the pages, docs/results/method_pictures.json")
    parser.add_argument("--smoke", action="store_true", help="a quick run that draws two pictures")
    given = parser.parse_args()
    main(given.names, given.out, given.smoke, given.json)
