# %% [markdown]
# # A ladder on CIFAR-10: one trick a rung
#
# A plain convolutional network overfits. Each rung adds one thing to the rung below, first those that a course teaches,
# then what `keras_reg` has beyond it, all in plain `model.fit`: Adam at 1e-3, He initialisation, images standardised by
# channel. `cifar10_rungs.py` says what each rung adds.
#
# `--size small`: 5,000 training images and a network that two CPU cores train; `--size full`: all of them on a GPU.
# Nothing is chosen by the validation images: every run trains all its epochs and is judged once, at its end.

# %%
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
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from cifar10_rungs import RUNGS, SIZES, augmentation, network, recipe
from example_data import command_line, load

import keras_reg

logging.getLogger("tensorflow").setLevel("ERROR")  # many models, each of which is traced

# The size of a smoke run.
SMOKE = {"networks": (((4, 4), 1), ((4, 4), 2), ((6, 6), 2)), "batch": 32, "dense": 8, "labelled": 64, "epochs": 1}


# %% [markdown]
# The images: zero mean and unit deviation in each channel of the training images.


# %%
def standardised(data):
    mean, deviation = (f(data.x_train, axis=(0, 1, 2)) for f in (np.mean, np.std))
    return data._replace(x_train=(data.x_train - mean) / deviation, x_val=(data.x_val - mean) / deviation)


class OnDevice(keras.utils.PyDataset):
    """Shuffled batches, cut on the device from images that stay there."""

    def __init__(self, x, y, batch, seed):
        super().__init__()
        self.x, self.y, self.batch = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y), batch
        self.count, self.random = len(x), np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return max(1, self.count // self.batch)  # the rest waits for another epoch: all batches have one shape

    def __getitem__(self, index):
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        return keras.ops.take(self.x, chosen, axis=0), keras.ops.take(self.y, chosen, axis=0)

    def on_epoch_end(self):
        self.order = self.random.permutation(self.count).astype("int32")


# %% [markdown]
# One run: what is on at this rung decides on network, augmentation, loss, optimizer and rate; then `fit`.


# %%
def build(on, size, shape, classes, seed):
    """The compiled model of a recipe."""
    keras.utils.set_random_seed(seed)
    model = network(on, size, shape, classes)
    augment = augmentation(on, seed)
    if augment is not None:
        model = keras_reg.training.AugmentedModel(model, augment)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if on.smoothing:
        loss = keras_reg.losses.LabelSmoothingCrossentropy(on.smoothing, from_logits=True)
    optimizer = keras.optimizers.Adam(1e-3, use_ema=on.ema, ema_momentum=size.ema_momentum)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def fit(model, on, size, data, seed):
    """Trains; with `ema`, Keras puts the averaged weights in place at the end. Returns the last epoch's accuracy."""
    callbacks = [keras_reg.callbacks.ExponentialLR(on.gamma)] if on.gamma != 1 else []
    arguments = {"epochs": size.epochs, "callbacks": callbacks, "verbose": 0}
    if size.on_device:
        history = model.fit(OnDevice(data.x_train, data.y_train, size.batch, seed), **arguments)
    else:
        history = model.fit(data.x_train, data.y_train, batch_size=size.batch, **arguments)
    return history.history["accuracy"][-1]


def run(name, size, data, seed):
    """One rung with one seed: accuracies of the finished network, and what it took."""
    keras.utils.clear_session()
    keras.config.set_dtype_policy(size.dtype)
    start = time.perf_counter(), time.process_time()
    try:
        on = recipe(name)
        model = build(on, size, data.x_train.shape[1:], data.classes, seed)
        running = fit(model, on, size, data, seed)
        seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        parts = {"train": (data.x_train, data.y_train), "validation": (data.x_val, data.y_val)}
        found = {key: model.evaluate(x, y, batch_size=500, verbose=0)[1] for key, (x, y) in parts.items()}
    finally:
        keras.config.set_dtype_policy("float32")
    return {
        "rung": name, "seed": seed, **found, "running": running, "epochs": size.epochs, "seconds": seconds,
        "cpu_seconds": cpu_seconds, "parameters": model.count_params(),
    }  # fmt: skip


# %% [markdown]
# All runs. Each goes into the JSON as soon as it is finished, and is not run again when the script is started once more
# with the same settings. The seed is the outer loop, so that a run that is stopped leaves whole ladders.


# %%
def climb(source, size, labelled, seeds, names, path):
    """Runs what is missing in the JSON at `path`, and returns all that is in it then."""
    done = None
    for seed in seeds:
        data = standardised(load(source, labelled, seed))
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


def resume(path, settings):
    """What an earlier start has left at `path`, if it had the same settings."""
    if not path.exists():
        return {"settings": settings, "runs": []}
    done = json.loads(path.read_text())
    if done["settings"] != settings:
        different = {key: done["settings"].get(key) for key in settings if done["settings"].get(key) != settings[key]}
        raise ValueError(f"{path} holds runs of other settings; give another --out. Received: {different}")
    return done


def merge(paths):
    """The results of several processes that have shared the seeds or the rungs."""
    found = [json.loads(pathlib.Path(path).read_text()) for path in paths]
    if any(one["settings"] != found[0]["settings"] for one in found):
        raise ValueError(f"Expected results of the same settings. Received: {paths}")
    runs = {(run["seed"], run["rung"]): run for one in found for run in one["runs"]}
    order = {name: index for index, name in enumerate(RUNGS)}
    return {**found[0], "runs": [runs[key] for key in sorted(runs, key=lambda key: (key[0], order[key[1]]))]}


def save(done, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(done, indent=1))
    partial.replace(path)


# %% [markdown]
# The table: means and standard deviations over the seeds. A step is the difference to the rung that this one stands on,
# seed by seed. The course's numbers come from other networks on all of the images: they stand beside, for the shape.


# %%
def summary(done):
    """A row for each rung that was run: arrays of per cent over the seeds, sorted by seed."""
    rows = []
    for rung in RUNGS.values():
        runs = sorted((one for one in done["runs"] if one["rung"] == rung.name), key=lambda one: one["seed"])
        if runs:
            row = {key: np.array([one[key] for one in runs]) for key in runs[0] if key != "rung"}
            rows.append({**row, **{k: 100 * row[k] for k in ("train", "validation", "running")}, "rung": rung})
    return rows


def step(row, rows):
    """The differences of validation accuracy to the rung below, for the seeds that both have."""
    below = next((other for other in rows if other["rung"].name == row["rung"].base), None)
    if below is None:
        return None
    _, here, there = np.intersect1d(row["seed"], below["seed"], return_indices=True)
    return row["validation"][here] - below["validation"][there]


def spread(values, sign="", digits=1):
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.{digits}f}{deviation}"


def table(done):
    """The result in Markdown."""
    rows, on_device = summary(done), done["settings"]["on_device"]
    time_name = "seconds" if on_device else "CPU seconds"
    lines = [f"| rung | train % | validation % | step | gap | epochs | {time_name} | course: validation % |"]
    lines.append("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for row in rows:
        steps = step(row, rows)
        seconds = row["seconds"] if on_device else row["cpu_seconds"]  # whoever else was on the machine
        course = row["rung"].course
        cells = [
            row["rung"].name, spread(row["train"]), spread(row["validation"]),
            "" if steps is None or not len(steps) else spread(steps, "+"),
            f"{(row['train'] - row['validation']).mean():.1f}", f"{row['epochs'][0]}", f"{seconds.mean():.0f}",
            "" if course is None else f"~{course[0]}" + (f" (train ~{course[1]})" if course[1] else ""),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# %% [markdown]
# The picture: a ladder that is climbed from below. The bar between training and validation is the gap.


# %%
def draw(done, path):
    rows = summary(done)
    figure, axis = plt.subplots(figsize=(10, 0.42 * len(rows) + 1.5), layout="constrained")
    aside = [row for row in rows if row["rung"].name.startswith("aside")]
    rows = [row for row in rows if row not in aside]
    heights = [*range(len(rows)), *(-1.5 - i for i in range(len(aside)))]
    for height, row in zip(heights, rows + aside, strict=True):
        train, validation = row["train"].mean(), row["validation"].mean()
        axis.plot([validation, train], [height] * 2, color="#d9d9d9", lw=7, solid_capstyle="round", zorder=1)
        axis.plot(row["validation"], [height] * len(row["validation"]), ".", color="#d0402b", alpha=0.5, ms=5)
        label = dict(zip(("train", "validation", "course"), ("training", "validation", "course"), strict=True))
        label = label if height == 0 else dict.fromkeys(label)
        axis.plot(train, height, "o", mfc="white", color="#555555", ms=7, label=label["train"])
        axis.plot(validation, height, "o", color="#d0402b", ms=8, label=label["validation"])
        axis.annotate(f"{validation:.1f}", (validation, height), (-9, 0), textcoords="offset points", ha="right",
                      va="center", fontsize=9, color="#d0402b")  # fmt: skip
        if row["rung"].course:
            axis.plot(row["rung"].course[0], height, "D", mfc="none", color="#3b6ea5", ms=6, label=label["course"])
    axis.plot([row["validation"].mean() for row in rows], heights[: len(rows)], "-", color="#d0402b", lw=1, zorder=0)
    axis.set_yticks(heights, [row["rung"].name for row in rows + aside])
    axis.set_xlabel("accuracy (%)")
    axis.legend(frameon=False, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# %%
def main(
    source=None, size="small", labelled=None, seeds=3, epochs=None, out="runs", first_seed=0, only=None, show=None,
    smoke=False,
):  # fmt: skip
    """Runs the ladder, or those rungs whose names contain one of `only`; `show` puts together what runs have left."""
    out = pathlib.Path(out)
    if show:
        done = merge(show)
        save(done, out / f"ladder_{size}.json")
    else:
        chosen = dataclasses.replace(SIZES[size], **(SMOKE if smoke else {}))
        given = {"labelled": labelled, "epochs": epochs}
        chosen = dataclasses.replace(chosen, **{k: v for k, v in given.items() if v is not None and not smoke})
        names = [name for name in RUNGS if only is None or any(part in name for part in only)]
        path = out / f"ladder_{size}.json"
        done = climb(
            source, chosen, chosen.labelled, range(first_seed, first_seed + (1 if smoke else seeds)), names, path
        )
        print(f"\nResults: {path}")
    draw(done, out / "ladder.png")
    print(f"Picture: {out / 'ladder.png'}\n")
    print(table(done))
    return done


if __name__ == "__main__":
    parser = command_line(__doc__, None, "one seed, one epoch, a tiny network: does it run?", labelled=None)
    parser.add_argument("--size", choices=SIZES, default="small", help="default: small")
    parser.add_argument("--only", nargs="+", help="rungs whose names contain one of these")
    parser.add_argument("--first-seed", type=int, default=0, help="to share the seeds among processes")
    parser.add_argument("--show", nargs="+", metavar="JSON", help="picture and table of these results, without a run")
    given = vars(parser.parse_args())
    del given["backend"]  # set above, before Keras was imported
    main(given.pop("data"), **given)
