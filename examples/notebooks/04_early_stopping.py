# %% [markdown]
# # Early stopping, overfitting and wrong labels
#
# A network that trains for too long overfits: it memorizes its training set, including the labels that are wrong.
# Early stopping ends training when the validation loss rises, and restores the best weights. But the validation curve
# is noisy, and the validation labels may be wrong as well. `SmoothedEarlyStopping` watches a moving average. When does
# this help?

# %% [markdown]
# The next cell is for Colab. If `keras_reg` is missing, the cell installs it from a wheel in the folder of this
# notebook. `make wheel` in a clone builds the wheel, since there is no release on PyPI yet.

# %%
import importlib.util
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or "jax", or "torch"
if importlib.util.find_spec("keras_reg") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q keras_reg-*.whl")

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_reg.callbacks import SmoothedEarlyStopping

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
EPOCHS, RUNS = (6, 1) if SMOKE else (60, 10)

# %% [markdown]
# There are 300 labeled digits, 200 for training and 100 for validation. Of all their labels, 30 % are wrong. The other
# 1497 images have correct labels and show how good the network really is, which is unknown in practice.

# %%
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")


def split(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    x, correct = images[order], labels[order]
    given = correct.copy()
    wrong = rng.permutation(300)[:90]
    given[wrong] = (correct[wrong] + rng.integers(1, 10, 90)) % 10
    return x, given, correct


def network(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((64,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    return model


# %% [markdown]
# The callback is used like Keras' own. Without it, the network remembers the wrong labels: it predicts them for its
# training images. With it, the network ends with the weights of an epoch before it has memorized them.

# %%
x, given, correct = split(0)
train, validation, test = slice(0, 200), slice(200, 300), slice(300, None)
wrong = given[train] != correct[train]
for name, callbacks in (
    ("to the end", []),
    ("EarlyStopping", [keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)]),
    ("SmoothedEarlyStopping", [SmoothedEarlyStopping(patience=5)]),
):
    model = network(0)
    watched = (x[validation], given[validation])
    history = model.fit(x[train], given[train], 32, EPOCHS, 0, callbacks, validation_data=watched).history
    predicted = model.predict(x, batch_size=600, verbose=0).argmax(1)
    accuracy = (predicted[test] == correct[test]).mean()
    remembered = (predicted[train] == given[train])[wrong].mean()
    print(
        f"{name:22} {len(history['loss']):3} epochs, accuracy {accuracy:.1%}, wrong labels remembered {remembered:.0%}"
    )

# %% [markdown]
# A single run proves little. Train several times, each time with other images and weights. Many callbacks can watch the
# same training if none of them ends it: `Watch` notes when its callback stops training, and trains on.
#
# The callbacks see two kinds of validation curves. If the same hundred images are used in every epoch, the whole curve
# is too high or too low, but smooth. If thirty images are drawn again for every epoch, as with `validation_steps` on a
# shuffled dataset, the noise of each epoch is independent. `Validation` computes both, and the accuracy on the test
# images.


# %%
class Validation(keras.callbacks.Callback):
    """Logs the losses on validation images, and records the accuracy on the test images."""

    def __init__(self, seed):
        super().__init__()
        self.x, self.given, self.correct = split(seed)
        self.rng, self.curves = np.random.default_rng(seed), {"same": [], "new": [], "accuracy": []}

    def on_epoch_end(self, epoch, logs):
        scores = self.model.predict(self.x, batch_size=600, verbose=0)
        scores = scores - scores.max(1, keepdims=True)
        losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), self.given]
        logs["same"] = losses[validation].mean()
        logs["new"] = self.rng.choice(losses[validation], 30, replace=False).mean()
        logs["accuracy"] = (scores.argmax(1) == self.correct)[test].mean()
        for name, values in self.curves.items():
            values.append(logs[name])


class Watch(keras.callbacks.Callback):
    """Notes in which epoch another callback stops training, and trains on."""

    def __init__(self, callback):
        super().__init__()
        self.callback, self.stopped = callback, None

    def set_model(self, model):
        super().set_model(model)
        self.callback.set_model(model)

    def on_train_begin(self, logs=None):
        self.callback.on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.stopped is None:
            self.callback.on_epoch_end(epoch, logs)
            self.stopped = epoch if self.model.stop_training else None
            self.model.stop_training = False


PATIENCES = (1, 2, 3, 5, 8, 12)
METHODS = {
    "EarlyStopping": lambda monitor, patience: keras.callbacks.EarlyStopping(monitor, patience=patience, mode="min"),
    "smoothed, beta 0.6": lambda monitor, patience: SmoothedEarlyStopping(
        monitor, patience=patience, mode="min", restore_best_weights=False
    ),
    "smoothed, beta 0.8": lambda monitor, patience: SmoothedEarlyStopping(
        monitor, patience=patience, mode="min", beta=0.8, restore_best_weights=False
    ),
}


def train_once(seed):
    """Trains a network. Returns its curves, and what each callback decided."""
    measured, model = Validation(seed), network(seed)
    watching = {
        (monitor, name, patience): Watch(make(monitor, patience))
        for monitor in ("same", "new")
        for name, make in METHODS.items()
        for patience in PATIENCES
    }
    images, labels = measured.x[train], measured.given[train]
    model.fit(images, labels, 32, EPOCHS, 0, callbacks=[measured, *watching.values()])
    return measured.curves, watching


runs = [train_once(seed) for seed in range(RUNS)]

# %% [markdown]
# The first training: the validation loss falls and then rises, as the network memorizes wrong labels. The dots are the
# epochs whose weights are restored with a patience of 5, and the legend has their accuracy on the test images.

# %%
COLORS = {"EarlyStopping": "#3b76af", "smoothed, beta 0.6": "#d0402b", "smoothed, beta 0.8": "#e08a4a"}
curves, watching = runs[0]
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
for axis, (monitor, title) in zip(
    axes, {"same": "the same images in every epoch", "new": "new images in every epoch"}.items(), strict=True
):
    axis.plot(curves[monitor], color="#bbbbbb", label="validation loss")
    for name in ("EarlyStopping", "smoothed, beta 0.6"):
        watch = watching[monitor, name, 5]
        kept, trained = watch.callback.best_epoch, EPOCHS if watch.stopped is None else watch.stopped + 1
        label = f"{name}: epoch {kept + 1} of {trained}, {curves['accuracy'][kept]:.1%}"
        axis.plot(kept, curves[monitor][kept], "o", color=COLORS[name], label=label)
    axis.plot(watching[monitor, "smoothed, beta 0.6", 12].callback.smoothed, color="#d0402b", linewidth=1)
    axis.set(xlabel="epoch", ylabel="loss", ylim=(1, 3.4), title=f"The first training, {title}")
    axis.legend(frameon=False, loc="upper left")

# %% [markdown]
# All trainings: the accuracy of the restored weights, for several values of `patience`. Without stopping, the network
# has the accuracy of the dotted line; if the best epoch were known, that of the dashed line. Higher and further left is
# better.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
last, best = (np.mean([f(curves["accuracy"]) for curves, _ in runs]) for f in (lambda values: values[-1], max))
for axis, (monitor, title) in zip(
    axes, {"same": "the same images in every epoch", "new": "new images in every epoch"}.items(), strict=True
):
    for name, color in COLORS.items():
        points = []
        for patience in PATIENCES:
            seen = [(curves, watching[monitor, name, patience]) for curves, watching in runs]
            trained = [EPOCHS if watch.stopped is None else watch.stopped + 1 for _, watch in seen]
            points.append((np.mean(trained), np.mean([c["accuracy"][watch.callback.best_epoch] for c, watch in seen])))
        axis.plot(*zip(*points, strict=True), "o-", color=color, label=name)
        epochs, accuracy = points[PATIENCES.index(5)]
        print(f"{title}, patience 5, {name:18} {epochs:5.1f} epochs, accuracy {accuracy:.1%}")
    axis.axhline(last, color="#888888", linestyle=":")
    axis.axhline(best, color="#888888", linestyle="--")
    axis.set(xlabel=f"epochs trained (patience {', '.join(map(str, PATIENCES))})", ylabel="accuracy", title=title)
    axis.legend(frameon=False)
print(f"last epoch {last:.1%}, best epoch {best:.1%}")

# %% [markdown]
# Stopping matters much more than which callback stops. It raises the accuracy from 72 to 83 %, close to that of the
# best epoch, although the validation labels are wrong as well.
#
# With the same images in every epoch, the two callbacks are equal. With new images in every epoch and a patience of 1
# to 3, both stop too early. Smoothing trains for a few epochs more and is better, mostly because of these epochs. From
# a patience of 5, the difference of 0.4 points is small. The simulated curves of
# `examples/early_stopping_simulation.py` show the same: at equal patience, smoothing is better, but most of the gain
# comes from the additional epochs.
