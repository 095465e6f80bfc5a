# %% [markdown]
# # Vanishing gradients
#
# In a network of twenty sigmoid layers, the gradients vanish. The derivative of a sigmoid is at most a quarter, so
# almost no gradient reaches the first layers, and they do not learn. ReLU with the initialization of He et al. (2015)
# preserves the variance from layer to layer and avoids this. `GradientHistograms` records the first step of every epoch
# of both networks, inside the compiled step.

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

NETWORKS = {  # name: activation, initializer
    "sigmoid, Glorot initialization": ("sigmoid", "glorot_uniform"),
    "ReLU, He initialization": ("relu", "he_normal"),
}


# %%
def network(activation, initializer, data):
    """A network of `DEPTH` equal layers and an output layer."""
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
# `log_dir` also writes files for TensorBoard. View them with `tensorboard --logdir runs`.


# %%
def watch(name, data, epochs, log_dir=None):
    """Trains one of the networks. Returns its callback and the validation accuracy."""
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
    """The gradient norm of each layer, from the first layer to the last."""
    return [found["norm"] for found in gradients.history["gradients"][record]["variables"].values()]


def print_table(seen):
    print(f"{'network':<32}{'first layer':>13}{'last layer':>13}{'ratio':>10}{'accuracy':>10}")
    for name, (gradients, accuracy) in seen.items():
        first, *_, last = norms(gradients)
        print(f"{name:<32}{first:>13.1e}{last:>13.1e}{first / last:>10.0e}{accuracy:>10.1%}")


# %% [markdown]
# The upper plots show the gradient norm of each layer, with one line per epoch. The lower plots show the histogram of
# the gradient in the first step, with one column per layer, over the logarithm of the magnitude.


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
        above.set_title(f"{DEPTH} layers, {name}: accuracy {accuracy:.0%}")
        above.set_xticks(range(0, DEPTH + 1, 5), [f"{index + 1}" for index in range(0, DEPTH + 1, 5)], rotation=0)
        mesh = draw_columns(below, gradients)
    figure.colorbar(mesh, ax=axes[1], label="share of the weights")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# %%
def main(epochs=EPOCHS, out="runs", log_dir=None, smoke=False):
    """Prints a table and draws the figure. Returns `{name: (callback, accuracy)}`."""
    data = example_data.load(labeled=128 if smoke else None)
    epochs = 2 if smoke else epochs
    seen = {}
    for name in NETWORKS:
        folder = None if log_dir is None else pathlib.Path(log_dir) / name.split(",")[0]
        seen[name] = watch(name, data, epochs, folder)
    print(f"Gradient norms in the first step, and accuracy on {data.name} after {epochs} epochs.\n")
    print_table(seen)
    path = pathlib.Path(out) / "vanishing_gradients.png"
    draw(seen, path)
    print(f"\nFigure: {path}")
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", default="runs", help="folder for the figure (default: runs)")
    parser.add_argument("--log-dir", help="folder for TensorBoard (default: none)")
    parser.add_argument("--smoke", action="store_true", help="a quick run with two epochs")
    given = parser.parse_args()
    main(given.epochs, given.out, given.log_dir, given.smoke)
