# %% [markdown]
# # Early stopping on noisy curves
#
# When the validation loss rises, it is time to stop. But the curve that one sees is the true one and noise, and the
# smaller the validation set, the more noise. `SmoothedEarlyStopping` judges a moving average. When does that help?

# %% [markdown]
# The next cell is for Colab: it installs `keras_reg` where it is missing, from a wheel that lies beside this notebook
# (`make wheel` in a checkout builds one; there is no release on PyPI yet).

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
# A hundred digits, of which three in ten got a label at random: a network that learns those too gets worse. All the
# other images, 1697 of them, tell the truth about every epoch, which in life nobody knows.

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
# It is used as Keras' own callback is. Here both watch the first fifty of the other images, and agree: the loss of
# the same fifty images, epoch after epoch, is a smooth curve.

# %%
for callback in (
    keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
    SmoothedEarlyStopping(patience=5, verbose=1),
):
    model = network()
    watched = (x_other[:50], y_other[:50])
    history = model.fit(x, y_noisy, 10, EPOCHS, 0, [callback], validation_data=watched).history
    loss, accuracy = model.evaluate(x_other[50:], y_other[50:], batch_size=1024, verbose=0)
    print(f"{type(callback).__name__}: {len(history['loss'])} epochs, then loss {loss:.3f}, accuracy {accuracy:.1%}")

# %% [markdown]
# One run is an anecdote. So train once to the end and keep the loss of every other image after every epoch: from
# those, as many noisy validation curves can be made as one likes. The callbacks need nothing but the curve.

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
    """What a callback needs of a model; its weights are the number of the epoch."""

    optimizer, stop_training, epoch = None, False, 0

    def get_weights(self):
        return [np.array(self.epoch)]

    def set_weights(self, weights):
        self.epoch = int(weights[0])


def stop(callback, curve):
    """The epoch whose weights come back, and how many epochs were trained."""
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
# Two kinds of noise. Fifty images drawn anew for every epoch, as with `validation_steps` on a shuffled dataset: then
# every epoch has luck of its own. Or the same fifty for all epochs: then the whole curve lies too high or too low, but
# it is smooth. The curve on the left is one on which the two callbacks part.


# %%
def curve(rng, anew):
    """A validation curve from fifty of the images."""
    once = rng.choice(losses.shape[1], 50)
    return np.array([row[rng.choice(len(row), 50) if anew else once].mean() for row in losses])


figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
for axis, anew in zip(axes, (True, False), strict=True):
    observed = curve(np.random.default_rng(11), anew)
    smoothed = SmoothedEarlyStopping(patience=5)
    ends = {"EarlyStopping": keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True), "smoothed": smoothed}
    axis.plot(true, color="black", label="true loss")
    axis.plot(observed, color="#bbbbbb", label="of fifty images")
    for (name, callback), color in zip(ends.items(), ("#3b76af", "#d0402b"), strict=True):
        epoch, epochs = stop(callback, observed)
        axis.plot(epoch, true[epoch], "o", color=color, label=f"{name}: epoch {epoch + 1} of {epochs}")
    axis.plot(smoothed.smoothed, color="#d0402b", linewidth=1)
    axis.set(xlabel="epoch", ylabel="loss", title="drawn anew for every epoch" if anew else "the same for all epochs")
    axis.legend(frameon=False)

# %% [markdown]
# Now a hundred curves of each kind, and several patiences. What did it cost to stop there: how far is the true loss
# from the best there was? More patience buys a better epoch and pays in epochs. Lower and further left is better.

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
    axis.set(xlabel="epochs trained (patience 2, 3, 5, 8, 12)", ylabel="true loss above the best")
    axis.set(yscale="log", title="drawn anew for every epoch" if anew else "the same for all epochs")
    axis.legend(frameon=False)

# %% [markdown]
# Where every epoch has luck of its own, smoothing gets a better epoch for the same number of epochs. Where the curve is
# smooth, there is nothing to smooth: all lie on one line, and smoothing is no more than a little more patience.
