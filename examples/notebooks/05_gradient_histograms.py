# %% [markdown]
# # Gradient histograms: vanishing and exploding
#
# If a deep network does not learn, its gradients often show the reason. `GradientHistograms` records the histogram of
# the gradient of each weight, as the optimizer receives it in `fit`. This notebook compares three networks of twenty
# layers.

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

import keras_reg

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
DEPTH, EPOCHS = (6, 1) if SMOKE else (20, 6)

x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")

# %% [markdown]
# - *sigmoid*: the derivative of a sigmoid is at most a quarter, so each layer shrinks the gradient.
# - *ReLU, too large*: the initial weights are too large. Each layer scales activations and gradients by 1.4.
# - *ReLU, He initialization*: the initial weights preserve the variance of the activations.

# %%
NETWORKS = {
    "sigmoid": ("sigmoid", {"scale": 1.0, "mode": "fan_avg"}),
    "ReLU, too large": ("relu", {"scale": 4.0, "mode": "fan_in"}),
    "ReLU, He initialization": ("relu", {"scale": 2.0, "mode": "fan_in"}),
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
# `plot` draws the norm of each layer's gradient, from the first epoch (dark) to the last (light).

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), sharey=True)
for axis, (name, (gradients, (loss, accuracy))) in zip(axes, seen.items(), strict=True):
    gradients.plot(ax=axis)
    axis.set_title(f"{name}\n{EPOCHS} epochs: loss {loss:.2g}, accuracy {accuracy:.0%}", fontsize=10)
    axis.set_xticks(range(0, DEPTH + 1, 5), range(1, DEPTH + 2, 5), rotation=0)
    axis.set(xlabel="layer", ylabel="norm of the gradient" if axis is axes[0] else "")
figure.tight_layout()

# %% [markdown]
# On the left, the gradients of the first layers are smaller than those of the last layer by twelve orders of magnitude.
# The first layers keep their initial weights, and the network can only guess. In the middle, all gradients are about a
# thousand times too large, since a gradient is the product of an activation and a backpropagated error, and both grow.
# Adam still makes some progress, because it divides by the scale of the gradients. Plain gradient descent would not. On
# the right, all layers get gradients of similar size, and all of them learn.
#
# A norm is a single number. The histograms show the distribution of the gradients in each layer. Each column is a
# layer, and the vertical axis is the logarithm of the magnitude.

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
# ## Remedies
#
# One remedy is He initialization. If the weights are given, batch normalization is another: it rescales the output of
# each layer, whatever its weights are. (A slope remains, since batch normalization lets the gradient grow a little from
# layer to layer in the backward pass.) `measure` records the gradients of one batch without training, and changes
# nothing.

# %%
for normalize, style in ((False, "--"), (True, "-")):
    model = network(*NETWORKS["ReLU, too large"], normalize)
    record = keras_reg.callbacks.GradientHistograms(include="*kernel").measure(model, x[:256], y[:256])
    norms = [found["norm"] for found in record["variables"].values()]
    plt.semilogy(range(1, DEPTH + 2), norms, style, label=f"with{'' if normalize else 'out'} batch normalization")
plt.xlabel("layer")
plt.ylabel("norm of the gradient")
plt.title("ReLU, too large")
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# `GradientHistograms(log_dir="runs")` also writes these histograms for TensorBoard, without TensorFlow. If training may
# diverge, add `keras_reg.callbacks.DivergenceStop()`, which stops it when the loss exceeds three times its first value.
