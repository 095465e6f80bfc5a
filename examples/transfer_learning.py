# %% [markdown]
# # Comparing transfer learning recipes on a few labeled images
#
# The script compares recipes for training with a few images per class: from scratch, a head on frozen features, a
# warm-up of the head followed by fine-tuning, immediate fine-tuning, and variants. The recipes are in
# `transfer_recipes.py`.
#
# - By default, a small residual network is trained on the digits 0 to 4, and should then classify the digits 5 to 9.
# - With `--backbone efficientnet_lite0 --data cifar10`, the backbone has ImageNet weights that come with the
#   dependencies of the examples. Images are enlarged to 128 pixels.
# - With `--backbone MobileNetV2` or another name in `keras.applications`, its ImageNet weights are downloaded.
#
# Each finished run is saved at once, and the same command makes the runs that are missing. With `--backups`, a run also
# continues after its last epoch.

# %%
import argparse
import collections
import dataclasses
import json
import os
import pathlib
import shutil
import sys
import time

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pretrained
from example_data import load
from transfer_recipes import CHOICES, DIGITS, plan_for, recipes, train
from transfer_results import draw, table

import keras_reg

# `learn` and `judge` are pairs (x, y). `make(kind)` returns a backbone and the arguments of `TransferLearner` for it.
Task = collections.namedtuple("Task", "learn judge classes make")
SMALL_RESNET = "small_resnet"
TUNING = 100  # the seed whose images `--choose` trains on


# %% [markdown]
# The small backbone has residual blocks with batch normalization and ends in a feature vector.


# %%
def small_resnet(shape, width=16):
    inputs = keras.Input(shape)
    x = convolution(inputs, width, 1, "stem")
    for number, filters in enumerate((width, 2 * width, 4 * width)):
        name = f"block{number + 1}"
        shortcut = x
        if number:
            shortcut = keras.layers.Conv2D(filters, 1, strides=2, use_bias=False, name=f"{name}_shortcut")(x)
        x = convolution(x, filters, 2 if number else 1, f"{name}_a")
        x = convolution(x, filters, 1, f"{name}_b")
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(x), name=SMALL_RESNET)


def convolution(x, filters, strides, name):
    x = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def pretrain(backbone, x, y, epochs):
    """Trains the backbone with a temporary head. Augmentation makes its features more general."""
    network = keras.Sequential([keras.Input(x.shape[1:]), backbone, keras.layers.Dense(int(y.max()) + 1)])
    augmentation = keras_reg.layers.Pipeline([keras_reg.layers.RandomPadCrop(1), keras_reg.layers.MixUp(0.4)], seed=0)
    model = keras_reg.training.RegularizedModel(network, augmentation)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)


# %% [markdown]
# A task has a few images of each class for training, and others to judge the result.


# %%
def few(x, y, per_class, seed):
    """The indices of `per_class` examples of each class, and all others, in random order."""
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(y == label))[:per_class] for label in np.unique(y)])
    return chosen, rng.permutation(np.setdiff1d(np.arange(len(y)), chosen))


def new_classes(source, per_class, seed, most, epochs):
    """Half of the classes are for pretraining the small network, the others are the task."""
    data = load(source, seed=seed)
    x, y = np.concatenate([data.x_train, data.x_val]), np.concatenate([data.y_train, data.y_val]).astype("int32")
    old = y < data.classes // 2
    keras.utils.set_random_seed(seed)
    trained = small_resnet(x.shape[1:])
    pretrain(trained, x[old], y[old], epochs)
    x, y = x[~old], y[~old] - data.classes // 2
    learn, judge = few(x, y, per_class, seed)

    def make(kind):
        backbone = small_resnet(x.shape[1:])
        if kind == "pretrained":
            backbone.set_weights(trained.get_weights())
        return backbone, {}

    judge = judge[:most]
    return Task((x[learn], y[learn]), (x[judge], y[judge]), data.classes - data.classes // 2, make)


def all_classes(data, per_class, seed, most, backbone, weights, size):
    """The task of a network with ImageNet weights: all classes of the data.

    Training images come from the first 80 % of the training split, in all runs. The rest of it judges the runs of
    `--choose`, and the test split all others.
    """
    until = int(0.8 * len(data.x_train))
    x, y = data.x_train[:until], data.y_train[:until]
    learn, _ = few(x, y, per_class, seed)
    judge = (data.x_train[until:], data.y_train[until:]) if seed == TUNING else (data.x_val, data.y_val)

    def make(kind):
        if kind == "small":
            return small_resnet(x.shape[1:]), {"preprocess": keras.layers.Rescaling(1 / 255)}
        if backbone == pretrained.NAME:
            made = pretrained.efficientnet_lite0(weights=weights if kind == "pretrained" else None)
            return made, {"preprocess": keras.layers.Resizing(size, size)}
        network = getattr(keras.applications, backbone)
        shape = (size, size, 3)
        made = network(include_top=False, weights=weights if kind == "pretrained" else None, input_shape=shape)
        return made, {"preprocess": "auto"}

    def pixels(x):
        x = 255 * (np.repeat(x, 3, -1) if x.shape[-1] == 1 else x)
        if backbone == pretrained.NAME:
            return x
        return keras.ops.convert_to_numpy(keras.ops.image.resize(x, (size, size)))

    return Task((pixels(x[learn]), y[learn]), (pixels(judge[0][:most]), judge[1][:most]), data.classes, make)


# %%
def run(task, name, plan, seed, backup_dir=None):
    """Trains by one recipe, and returns what was measured. The times of a resumed run are those since it resumed."""
    resumed = {"resumed": True} if backup_dir and backup_dir.exists() else {}
    recipe = recipes(plan, len(task.learn[0]))[name]
    keras.utils.set_random_seed(seed)
    start, cpu = time.perf_counter(), time.process_time()
    backbone, preprocess = task.make(recipe.backbone)
    learner = train(backbone, task.classes, task.learn, recipe, plan.batch, seed, backup_dir, **preprocess)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    _, accuracy = learner.evaluate(*task.judge, batch_size=100, verbose=0)
    keras.backend.clear_session()
    return {"accuracy": float(accuracy), "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), **resumed}


def settings(name, backbone, size, most, per_class, tuning):
    """What all runs in one file have in common."""
    plans = {str(number): dataclasses.asdict(plan) for number, plan in per_class.items()}
    common = {"data": name, "backbone": backbone, "size": size, "judged": most, "choice": tuning}
    return {**common, "backend": keras.backend.backend(), "plans": plans}


class Results:
    """The finished runs in a JSON file, which is written after each of them."""

    def __init__(self, path, common):
        self.path, self.done = pathlib.Path(path), {"settings": common, "runs": []}
        if self.path.exists():
            self.done = json.loads(self.path.read_text(encoding="utf-8"))
            known = self.done["settings"]
            plans = {**common["plans"], **known["plans"]}
            if {**known, "plans": plans} != {**common, "plans": {**known["plans"], **common["plans"]}}:
                raise ValueError(f"Expected a file of the same settings, or a new one. Received: {path}")
            known["plans"] = plans

    def has(self, **key):
        return any(key.items() <= run.items() for run in self.done["runs"])

    def add(self, run):
        self.done["runs"].append(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".tmp")
        new.write_text(json.dumps(self.done, indent=1) + "\n", encoding="utf-8")
        new.replace(self.path)


def report(run):
    changed = f" {run['field']} {run['value']:g}" if "field" in run else ""
    name = f"{run['recipe']}{changed}"
    print(
        f"{run['per_class']:4} per class, seed {run['seed']}: {name:36} {100 * run['accuracy']:6.2f} %"
        f"  {run['seconds']:6.1f} s",
        flush=True,
    )


def compare(results, tasks, plans, seeds, only, backups=None):
    """Makes all runs that are missing in the results, with a folder for the backups of unfinished ones, or `None`."""
    for per_class, plan in plans.items():
        for seed in seeds:
            names = [name for name in recipes(plan, per_class) if only is None or name in only]
            missing = [name for name in names if not results.has(per_class=per_class, seed=seed, recipe=name)]
            task = tasks(per_class, seed) if missing else None
            for name in missing:
                folder = backups and backups / f"{per_class} per class, seed {seed}, {name}"
                measured = run(task, name, plan, seed, folder)
                results.add({"per_class": per_class, "seed": seed, "recipe": name, **measured})
                report(results.done["runs"][-1])
                if folder:
                    shutil.rmtree(folder)


def choose(results, tasks, plans):
    """Tries learning rates on images that no other run trains on or is judged by."""
    for per_class, plan in plans.items():
        task = tasks(per_class, TUNING)
        for name, (field, values) in CHOICES.items():
            for value in values:
                key = {"per_class": per_class, "seed": TUNING, "recipe": name, "field": field, "value": value}
                if not results.has(**key):
                    results.add({**key, **run(task, name, dataclasses.replace(plan, **{field: value}), TUNING)})
                    report(results.done["runs"][-1])


# %%
def main(
    source=None,
    backbone=SMALL_RESNET,
    weights="imagenet",
    size=128,
    per_class=None,
    seeds=3,
    first_seed=0,
    judged=1000,
    out="runs",
    only=None,
    tune=False,
    smoke=False,
    backups=False,
):
    small = backbone == SMALL_RESNET
    per_class = per_class or ((3,) if small else (10, 50, 500))
    pretraining = 20
    if smoke:
        per_class, seeds, judged, pretraining, size = (2,), 1, 50, 1, 32
    data = load(source)
    plans = {number: DIGITS if small else plan_for(number * data.classes) for number in per_class}
    if smoke:
        quick = {"head_epochs": 1, "epochs": 1, "scratch_epochs": 1, "small_epochs": 1}
        plans = {number: dataclasses.replace(plan, **quick) for number, plan in plans.items()}

    def tasks(number, seed):
        if small:
            return new_classes(source, number, seed, judged, pretraining)
        return all_classes(data, number, seed, judged, backbone, weights, size)

    out = pathlib.Path(out)
    name = "transfer_choice" if tune else "transfer_digits" if small else "transfer"
    common = settings(data.name, backbone, data.x_train.shape[1] if small else size, judged, plans, tune)
    results = Results(out / f"{name}.json", common)
    if tune:
        choose(results, tasks, plans)
        return results.done
    compare(results, tasks, plans, range(first_seed, first_seed + seeds), only, out / "unfinished" if backups else None)
    print("\n" + table(results.done))
    draw(results.done, out / f"{name}.png")
    print(f"\nFigure: {out / f'{name}.png'}")
    return results.done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compares transfer learning recipes on a few images per class.")
    parser.add_argument(
        "--data", help="image folder, .npz with x_train ... y_test, tfds:NAME, cifar10 (default: digits)"
    )
    parser.add_argument("--backbone", default=SMALL_RESNET,
                        help="small_resnet, efficientnet_lite0, or a name in keras.applications")  # fmt: skip
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file (default: imagenet)")
    parser.add_argument("--size", type=int, default=128, help="side to which images are resized (default: 128)")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), help="default: tensorflow")
    parser.add_argument("--per-class", type=int, nargs="+", help="images per class (default: 10 50 500; of digits 3)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="first seed, to divide the seeds among processes")
    parser.add_argument("--judged", type=int, default=1000, help="number of test images (default: 1000)")
    parser.add_argument("--only", nargs="+", help="names of recipes (default: all)")
    parser.add_argument("--choose", action="store_true", help="compare learning rates on other images")
    parser.add_argument("--out", default="runs", help="folder for the figure and the results (default: runs)")
    parser.add_argument("--smoke", action="store_true", help="a quick run with one seed and one epoch")
    parser.add_argument(
        "--backups", action="store_true", help="save each epoch, so that an interrupted run continues after it"
    )
    given = parser.parse_args()
    main(
        given.data,
        given.backbone,
        None if given.weights == "none" else given.weights,
        given.size,
        given.per_class,
        given.seeds,
        given.first_seed,
        given.judged,
        given.out,
        given.only,
        given.choose,
        given.smoke,
        given.backups,
    )
