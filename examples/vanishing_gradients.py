# %% [markdown]
# # Do the gradients arrive?
#
# Twenty layers of sigmoids, as networks were built once: the derivative of a sigmoid is at most a quarter, so what the
# loss says reaches the first layers hardly at all, and they do not learn. With ReLU and weights drawn as He et al.
# (2015) propose, which keep the variance from layer to layer, it arrives. `GradientHistograms` watches the first step
# of every epoch of both, inside the compiled step.

# %%
import argparse
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("agg")
import example_data
import matplotlib.pyplot as plt
import numpy as np

import keras_reg

DEPTH, WIDTH = 20, 64
EPOCHS = 8

NETWORKS = {  # name: activation, how the weights are drawn
    "sigmoid, Glorot initialisation": ("sigmoid", "glorot_uniform"),
    "ReLU, He initialisation": ("relu", "he_normal"),
}


# %%
def network(activation, initializer, data):
    """As many layers as there are, all alike, and one that decides between the classes."""
    keras.utils.set_random_seed(1)
    hidden = [
        keras.layers.Dense(WIDTH, activation, kernel_initializer=initializer, name=f"layer_{index}")
        for index in range(1, DEPTH + 1)
    ]
    model = keras.Sequential(
        [keras.Input(data.x_train.shape[1:]), keras.layers.Flatten(), *hidden, keras.layers.Dense(10, name="output")]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


# %% [markdown]
# `log_dir` writes the same for TensorBoard: `tensorboard --logdir runs`.


# %%
def watch(name, data, epochs, log_dir=None):
    """Trains one of the networks; returns what its callback has seen, and the accuracy on the validation images."""
    gradients = keras_reg.callbacks.GradientHistograms(log_dir, include="*kernel")
    history = network(*NETWORKS[name], data).fit(
        data.x_train,
        data.y_train,
        validation_data=(data.x_val, data.y_val),
        batch_size=64,
        epochs=epochs,
        callbacks=[gradients],
        verbose=0,
    )
    return gradients, history.history["val_accuracy"][-1]


def norms(gradients, record=0):
    """The norm of each layer's gradient, from the first layer to the last."""
    return [found["norm"] for found in gradients.history["gradients"][record]["variables"].values()]


def print_table(seen):
    print(f"{'network':<32}{'first layer':>13}{'last layer':>13}{'ratio':>10}{'accuracy':>10}")
    for name, (gradients, accuracy) in seen.items():
        first, *_, last = norms(gradients)
        print(f"{name:<32}{first:>13.1e}{last:>13.1e}{first / last:>10.0e}{accuracy:>10.1%}")


# %% [markdown]
# The picture: above, the norm of the gradient by layer, a line an epoch; below, the histogram of the gradient of every
# layer in the very first step, a column each, over the logarithm of the magnitude.


# %%
def draw_columns(axis, gradients):
    record, half = gradients.history["gradients"][0], len(gradients.edges) // 2
    counts = [found["counts"] for found in record["variables"].values()]
    shares = np.array([(c[half:] + c[:half][::-1]) / c.sum() for c in counts])  # of either sign
    edges = np.log10(gradients.edges[half + 1 : -1])
    columns = np.arange(len(counts) + 1) - 0.5
    mesh = axis.pcolormesh(columns, edges, shares[:, 1:-1].T, cmap="magma_r", vmin=0, vmax=0.5)
    axis.set(xlabel="layer", ylabel="log10 of |gradient|, first step", ylim=(-15, 1))
    axis.set_xticks(range(0, len(counts), 5), [f"{index + 1}" for index in range(0, len(counts), 5)])
    return mesh


def draw(seen, path):
    figure, axes = plt.subplots(2, len(seen), figsize=(11, 8), layout="constrained", sharey="row", squeeze=False)
    for column, (name, (gradients, accuracy)) in enumerate(seen.items()):
        above, below = axes[:, column]
        gradients.plot(ax=above)
        above.set_title(f"{DEPTH} layers, {name}: {accuracy:.0%} right")
        above.set_xticks(range(0, DEPTH + 1, 5), [f"{index + 1}" for index in range(0, DEPTH + 1, 5)], rotation=0)
        mesh = draw_columns(below, gradients)
    figure.colorbar(mesh, ax=axes[1], label="share of the weights")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# %%
def main(epochs=EPOCHS, out="runs", log_dir=None, smoke=False):
    """Prints a table and draws the picture; returns `{name: (callback, accuracy)}`."""
    data = example_data.load(labelled=128 if smoke else None)
    epochs = 2 if smoke else epochs
    seen = {}
    for name in NETWORKS:
        folder = None if log_dir is None else pathlib.Path(log_dir) / name.split(",")[0]
        seen[name] = watch(name, data, epochs, folder)
    print(f"Norms of the gradient in the first step; accuracy after {epochs} epochs on {data.name}.\n")
    print_table(seen)
    path = pathlib.Path(out) / "vanishing_gradients.png"
    draw(seen, path)
    print(f"\nPicture: {path}")
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", default="runs", help="folder for the picture (default: runs)")
    parser.add_argument("--log-dir", help="folder for TensorBoard (default: none)")
    parser.add_argument("--smoke", action="store_true", help="two epochs: does it run?")
    given = parser.parse_args()
    main(given.epochs, given.out, given.log_dir, given.smoke)
