# %% [markdown]
# # A ladder on CIFAR-10: one technique per rung
#
# A plain convolutional network overfits. Each rung adds one technique to the rung below. The first rungs follow a
# course, and the later ones use what `keras_reg` adds. All rungs use plain `model.fit`, Adam with a learning rate of
# 1e-3, He initialization, and images standardized per channel. `cifar10_rungs.py` defines the rungs.
#
# `--size small` uses 5,000 training images and a network that two CPU cores can train. `--size full` uses all images
# and a GPU. No setting is chosen by the validation images: every run trains for all epochs and is evaluated once, at
# the end.

# %%
import collections
import dataclasses
import json
import logging
import os
import pathlib
import sys
import time

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from cifar10_results import draw, merge, table
from cifar10_rungs import RUNGS, SIZES, augmentation, network, recipe
from example_data import Data, command_line, load
from saved_runs import resume, save

import keras_reg

logging.getLogger("tensorflow").setLevel("ERROR")  # each of the many models is traced

# The size of a smoke run.
SMOKE = {"networks": (((4, 4), 1), ((4, 4), 2), ((6, 6), 2)), "batch": 32, "dense": 8, "labeled": 64, "epochs": 1}


# %% [markdown]
# Standardize the images, so that each channel of the training images has zero mean and unit standard deviation.


# %%
Standardized = collections.namedtuple("Standardized", [*Data._fields, "pixels"])


def standardized(data):
    """The data with standardized images, and the means and standard deviations of the pixels."""
    mean, deviation = (f(data.x_train, axis=(0, 1, 2)) for f in (np.mean, np.std))
    images = {key: (getattr(data, key) - mean) / deviation for key in ("x_train", "x_val")}
    return Standardized(**{**data._asdict(), **images}, pixels=(mean, deviation))


class OnDevice(keras.utils.PyDataset):
    """Shuffled batches, which are sliced on the device from images that stay there."""

    def __init__(self, x, y, batch, seed):
        super().__init__()
        self.x, self.y, self.batch = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y), batch
        self.count, self.random = len(x), np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return max(1, self.count // self.batch)  # drops the remainder, so that all batches have the same shape

    def __getitem__(self, index):
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        return keras.ops.take(self.x, chosen, axis=0), keras.ops.take(self.y, chosen, axis=0)

    def on_epoch_end(self):
        self.order = self.random.permutation(self.count).astype("int32")


# %% [markdown]
# In one run, the recipe of the rung determines the network, augmentation, loss, optimizer and learning rate.


# %%
def build(on, size, shape, classes, seed, pixels=(0.0, 1.0)):
    """The compiled model of a recipe. `pixels` is what the images were standardized by."""
    keras.utils.set_random_seed(seed)
    model = network(on, size, shape, classes)
    augment = augmentation(on, size, seed, pixels)
    if augment is not None:
        model = keras_reg.training.RegularizedModel(model, augment)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if on.smoothing:
        loss = keras_reg.losses.LabelSmoothingCrossentropy(on.smoothing, from_logits=True)
    optimizer = keras.optimizers.Adam(1e-3, use_ema=on.ema, ema_momentum=size.ema_momentum)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def fit(model, on, size, data, seed):
    """Trains the model and returns the last training accuracy. With `ema`, the model ends with the averaged weights."""
    callbacks = [keras_reg.callbacks.ExponentialLR(on.gamma)] if on.gamma != 1 else []
    arguments = {"epochs": size.epochs, "callbacks": callbacks, "verbose": 0}
    if size.on_device:
        history = model.fit(OnDevice(data.x_train, data.y_train, size.batch, seed), **arguments)
    else:
        history = model.fit(data.x_train, data.y_train, batch_size=size.batch, **arguments)
    return history.history["accuracy"][-1]


def run(name, size, data, seed):
    """Trains one rung with one seed. Returns the accuracies of the trained network and the time."""
    return {"rung": name, "seed": seed, **train(recipe(name), size, data, seed)}


def train(on, size, data, seed):
    """Trains one recipe. Returns the accuracies of the trained network and the time."""
    keras.utils.clear_session()
    keras.config.set_dtype_policy(size.dtype)
    start = time.perf_counter(), time.process_time()
    try:
        model = build(on, size, data.x_train.shape[1:], data.classes, seed, data.pixels)
        running = fit(model, on, size, data, seed)
        seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        parts = {"train": (data.x_train, data.y_train), "validation": (data.x_val, data.y_val)}
        found = {key: model.evaluate(x, y, batch_size=500, verbose=0)[1] for key, (x, y) in parts.items()}
    finally:
        keras.config.set_dtype_policy("float32")
    return {
        **found, "running": running, "epochs": size.epochs, "seconds": seconds,
        "cpu_seconds": cpu_seconds, "parameters": model.count_params(),
    }  # fmt: skip


# %% [markdown]
# Each run is saved to the JSON file when it is finished. If you start the script again with the same settings, finished
# runs are not repeated. The seed is the outer loop, so an interrupted script leaves complete ladders.


# %%
def climb(source, size, seeds, names, path):
    """Runs everything that is missing in the JSON file at `path`, and returns all its results."""
    done = None
    for seed in seeds:
        data = standardized(load(source, size.labeled, seed))
        settings = {
            "data": data.name, "images": len(data.x_train), "judged_on": len(data.x_val),
            "backend": keras.backend.backend(), **json.loads(json.dumps(dataclasses.asdict(size))),
        }  # fmt: skip
        done = done or resume(path, settings)
        for name in names:
            if any(one["rung"] == name and one["seed"] == seed for one in done["runs"]):
                continue
            one = run(name, size, data, seed)
            done["runs"].append(one)
            save(done, path)
            accuracies = f"train {one['train']:.4f}  validation {one['validation']:.4f}"
            print(f"  seed {seed}  {name:44} {accuracies}  {one['seconds']:6.1f} s", flush=True)
    return done


# %% [markdown]
# `cifar10_results.py` prints a table of means and standard deviations over the seeds, in which a step is the difference
# from the rung below with the same seed, and draws a figure of the ladder.


# %%
def main(
    source=None, size="small", labeled=None, seeds=3, epochs=None, out="runs", first_seed=0, only=None, show=None,
    smoke=False,
):  # fmt: skip
    """Runs the ladder, or the rungs whose names contain one of `only`. `show` merges the results of earlier runs."""
    out = pathlib.Path(out)
    names = [name for name in RUNGS if only is None or any(part in name for part in only)]
    if not names:
        raise ValueError(f"Expected parts of names of rungs, {list(RUNGS)}. Received: only={only}")
    if show:
        done, path = merge(show), pathlib.Path(show[0])
        if len(show) > 1:
            path = out / path.name
            save(done, path)
    else:
        path = out / f"ladder_{size}{'_smoke' if smoke else ''}.json"
        given = SMOKE if smoke else {"labeled": labeled, "epochs": epochs}
        size = dataclasses.replace(SIZES[size], **{key: value for key, value in given.items() if value is not None})
        if smoke:
            seeds = 1
            path.unlink(missing_ok=True)  # always runs everything
        done = climb(source, size, range(first_seed, first_seed + seeds), names, path)
    print(f"\nResults: {path}")
    draw(done, out / "ladder.png")
    print(f"Figure: {out / 'ladder.png'}\n")
    print(table(done))
    return done


if __name__ == "__main__":
    parser = command_line(__doc__, None, "a quick run with one seed, one epoch and a tiny network", labeled=None)
    parser.add_argument("--size", choices=SIZES, default="small", help="default: small")
    parser.add_argument("--only", nargs="+", help="rungs whose names contain one of these")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed, to divide the seeds among processes")
    parser.add_argument("--show", nargs="+", metavar="JSON", help="draw and print these results without training")
    given = vars(parser.parse_args())
    del given["backend"]  # set above, before Keras was imported
    main(given.pop("data"), **given)
