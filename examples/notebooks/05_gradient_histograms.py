# %% [markdown]
# # Gradient histograms: vanishing and exploding
#
# A deep network that does not learn gives no reason. Its gradients do: `GradientHistograms` keeps their histograms,
# weight by weight, as the optimizer receives them in `fit`. Here are twenty layers, built in three ways.

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

import keras_reg

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
DEPTH, EPOCHS = (6, 1) if SMOKE else (20, 6)

x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")

# %% [markdown]
# - *sigmoid*: the derivative of a sigmoid is at most a quarter, so each layer passes on a fraction of what it gets.
# - *ReLU, drawn too large*: each layer makes what passes 1.4 times as large, forwards and backwards.
# - *ReLU, He initialisation*: the weights are drawn so that the variance stays what it was.

# %%
NETWORKS = {
    "sigmoid": ("sigmoid", {"scale": 1.0, "mode": "fan_avg"}),
    "ReLU, drawn too large": ("relu", {"scale": 4.0, "mode": "fan_in"}),
    "ReLU, He initialisation": ("relu", {"scale": 2.0, "mode": "fan_in"}),
}


def network(activation, variance, normalize=False):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((64,))])
    for _ in range(DEPTH):
        model.add(keras.layers.Dense(64, kernel_initializer=keras.initializers.VarianceScaling(**variance)))
        if normalize:
            model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.Activation(activation))
    model.add(keras.layers.Dense(10))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def watch(activation, variance):
    model = network(activation, variance)
    gradients = keras_reg.callbacks.GradientHistograms(include="*kernel", weights=False)
    model.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=0, callbacks=[gradients])
    return gradients, model.evaluate(x, y, batch_size=1024, verbose=0)


seen = {name: watch(*how) for name, how in NETWORKS.items()}

# %% [markdown]
# The norm of each layer's gradient, from the first epoch (dark) to the last (light). `plot` draws it.

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), sharey=True)
for axis, (name, (gradients, (loss, accuracy))) in zip(axes, seen.items(), strict=True):
    gradients.plot(ax=axis)
    axis.set_title(f"{name}\n{EPOCHS} epochs: loss {loss:.2g}, {accuracy:.0%} right", fontsize=10)
    axis.set_xticks(range(0, DEPTH + 1, 5), range(1, DEPTH + 2, 5), rotation=0)
    axis.set(xlabel="layer", ylabel="norm of the gradient" if axis is axes[0] else "")
figure.tight_layout()

# %% [markdown]
# To the left, the first layers get a millionth of a millionth of what the last one gets: they stay as they were drawn,
# and the network guesses. In the middle, every layer gets a thousand times what it should: a gradient is a product of
# what came forwards and what came backwards. Adam, which divides by the size of the gradients, limps on; plain
# gradient descent would not. To the right, every layer gets as much as the others, and all of them learn.
#
# A norm is one number. The histogram shows where all the gradients of a layer are: a column for each layer, over the
# logarithm of their magnitude.

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), sharey=True, layout="constrained")
for axis, (name, (gradients, _)) in zip(axes, seen.items(), strict=True):
    half = len(gradients.edges) // 2  # negative gradients below, positive ones above
    counts = [found["counts"] for found in gradients.history["gradients"][0]["variables"].values()]
    shares = np.array([(c[half:] + c[:half][::-1]) / c.sum() for c in counts])[:, 1:-1]
    edges = np.log10(gradients.edges[half + 1 : -1])
    mesh = axis.pcolormesh(np.arange(len(counts) + 1) + 0.5, edges, shares.T, cmap="magma_r", vmin=0, vmax=0.5)
    axis.set(title=name, xlabel="layer", ylabel="log10 of |gradient|, first step" if axis is axes[0] else "")
figure.colorbar(mesh, ax=axes, label="share of the weights")
plt.show()

# %% [markdown]
# ## What helps
#
# He initialisation is one answer. Where the weights are given, batch normalization is another: it brings every layer's
# output back to one scale, whatever the weights are. (A slope remains: going backwards, it lets the gradient grow a
# little from layer to layer.) One batch tells, without training: `measure` looks at it and changes nothing.

# %%
for normalize, style in ((False, "--"), (True, "-")):
    model = network(*NETWORKS["ReLU, drawn too large"], normalize)
    record = keras_reg.callbacks.GradientHistograms(include="*kernel").measure(model, x[:256], y[:256])
    norms = [found["norm"] for found in record["variables"].values()]
    plt.semilogy(range(1, DEPTH + 2), norms, style, label=f"with{'' if normalize else 'out'} batch normalization")
plt.xlabel("layer")
plt.ylabel("norm of the gradient")
plt.title("ReLU, drawn too large")
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# `GradientHistograms(log_dir="runs")` writes all of this for TensorBoard too, without TensorFlow. And a training that
# explodes need not be waited for: `keras_reg.callbacks.DivergenceStop()` ends it when the cost is three times its
# first value.
