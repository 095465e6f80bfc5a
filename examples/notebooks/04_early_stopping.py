# %% [markdown]
# # Early stopping on noisy curves
#
# Training should stop when the validation loss rises. But the observed curve is the true curve plus noise, and a
# smaller validation set gives more noise. `SmoothedEarlyStopping` watches a moving average. When does this help?

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
EPOCHS, CURVES = (8, 5) if SMOKE else (120, 100)

# %% [markdown]
# The training set is a hundred digits, and 30 % of them get a random label. A network that memorizes those labels gets
# worse. The other 1697 images give the true loss of every epoch, which is unknown in practice.

# %%
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
rng = np.random.default_rng(1)
order = rng.permutation(len(labels))
x, y, x_other, y_other = images[order[:100]], labels[order[:100]], images[order[100:]], labels[order[100:]]
y_noisy = np.where(rng.random(100) < 0.3, rng.integers(0, 10, 100), y)


def network():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((64,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


# %% [markdown]
# The callback is used like Keras' own. Here both callbacks watch the first fifty of the other images, and they agree:
# the loss on the same fifty images in every epoch is already a smooth curve.

# %%
for callback in (
    keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
    SmoothedEarlyStopping(patience=5, verbose=1),
):
    model = network()
    watched = (x_other[:50], y_other[:50])
    history = model.fit(x, y_noisy, 10, EPOCHS, 0, [callback], validation_data=watched).history
    loss, accuracy = model.evaluate(x_other[50:], y_other[50:], batch_size=1024, verbose=0)
    print(f"{type(callback).__name__}: {len(history['loss'])} epochs, loss {loss:.3f}, accuracy {accuracy:.1%}")

# %% [markdown]
# A single run proves little. Therefore, train once to the end and store the loss of each of the other images after
# every epoch. Any number of noisy validation curves can be computed from these losses. The callbacks only need the
# curve, so a small class takes the place of the model.

# %%
losses = []


def keep(epoch, logs):
    scores = keras.ops.convert_to_numpy(model(x_other))
    scores = scores - scores.max(1, keepdims=True)
    losses.append(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), y_other])


model = network()
model.fit(x, y_noisy, 10, EPOCHS, 0, [keras.callbacks.LambdaCallback(on_epoch_end=keep)])
losses = np.stack(losses)  # (epochs, images)
true = losses.mean(1)


class Epoch:
    """The part of a model that a callback uses. Its weights are the number of the epoch."""

    optimizer, stop_training, epoch = None, False, 0

    def get_weights(self):
        return [np.array(self.epoch)]

    def set_weights(self, weights):
        self.epoch = int(weights[0])


def stop(callback, curve):
    """Returns the epoch whose weights are restored, and the number of trained epochs."""
    model = Epoch()
    callback.set_model(model)
    callback.on_train_begin()
    for model.epoch, value in enumerate(curve):
        callback.on_epoch_end(model.epoch, {"val_loss": value})
        if model.stop_training:
            break
    epochs = model.epoch + 1
    callback.on_train_end()
    return model.epoch, epochs


# %% [markdown]
# There are two kinds of noise. If fifty images are drawn again for every epoch, as with `validation_steps` on a
# shuffled dataset, the noise of each epoch is independent. If the same fifty images are used in all epochs, the whole
# curve is too high or too low, but it is smooth. The curve on the left is an example on which the two callbacks differ.


# %%
def curve(rng, anew):
    """A validation curve computed from fifty of the images."""
    once = rng.choice(losses.shape[1], 50)
    return np.array([row[rng.choice(len(row), 50) if anew else once].mean() for row in losses])


figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
for axis, anew in zip(axes, (True, False), strict=True):
    observed = curve(np.random.default_rng(11), anew)
    smoothed = SmoothedEarlyStopping(patience=5)
    ends = {"EarlyStopping": keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True), "smoothed": smoothed}
    axis.plot(true, color="black", label="true loss")
    axis.plot(observed, color="#bbbbbb", label="loss on fifty images")
    for (name, callback), color in zip(ends.items(), ("#3b76af", "#d0402b"), strict=True):
        epoch, epochs = stop(callback, observed)
        axis.plot(epoch, true[epoch], "o", color=color, label=f"{name}: epoch {epoch + 1} of {epochs}")
    axis.plot(smoothed.smoothed, color="#d0402b", linewidth=1)
    axis.set(
        xlabel="epoch", ylabel="loss", title="new images in every epoch" if anew else "the same images in every epoch"
    )
    axis.legend(frameon=False)

# %% [markdown]
# Now use a hundred curves of each kind and several values of `patience`. The cost of stopping is the difference between
# the true loss of the restored epoch and the lowest true loss. More patience finds a better epoch but trains for more
# epochs. Lower and further left is better.

# %%
METHODS = {
    "EarlyStopping": lambda patience: keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True),
    "smoothed, beta 0.6": lambda patience: SmoothedEarlyStopping(patience=patience),
    "smoothed, beta 0.8": lambda patience: SmoothedEarlyStopping(beta=0.8, patience=patience),
}
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
for axis, anew in zip(axes, (True, False), strict=True):
    observed = [curve(np.random.default_rng(seed), anew) for seed in range(CURVES)]
    for name, method in METHODS.items():
        found = np.array([[stop(method(p), values) for values in observed] for p in (2, 3, 5, 8, 12)])
        excess = (true[found[..., 0]] - true.min()).mean(1)
        axis.plot(found[..., 1].mean(1), excess, "o-", label=name)
    axis.set(xlabel="epochs trained (patience 2, 3, 5, 8, 12)", ylabel="true loss minus lowest true loss")
    axis.set(yscale="log", title="new images in every epoch" if anew else "the same images in every epoch")
    axis.legend(frameon=False)

# %% [markdown]
# If the noise of each epoch is independent, smoothing finds a better epoch for the same number of epochs. If the curve
# is smooth, all methods lie on one line, and smoothing only acts like a little more patience. Over the simulated curves
# of `examples/early_stopping_simulation.py`, most of the gain at equal patience also comes from the additional epochs.
