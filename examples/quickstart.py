# %% [markdown]
# # Quickstart: the same network with and without regularization
#
# Train a small network on few labels, and on labels of which 30 % are wrong, with and without the regularization of
# `keras_reg`. Everything else stays the same. All images that are not trained on are for the test.

# %%
import json
import os
import pathlib
import sys

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Several processes share a GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import keras
import numpy as np
from example_data import command_line
from quickstart_choice import choose
from quickstart_picture import draw
from quickstart_training import PARTS, PLAIN, RECIPE, Progress, Task, load, summary, train_all

LABELED, EPOCHS = 100, 100
LABELED_WRONG, EPOCHS_WRONG = 800, 40  # with 30 % wrong labels
# The parts of the recipe in each run. "plain" has the learning rate that suits it best, all others that of the recipe.
RUNS = {"plain": (), "plain, same rate": (), "shift": PARTS[:1], "shift, mix": PARTS[:2], "keras_reg": PARTS}
COMPARED = {
    "few": ("plain", "keras_reg"),
    "twice": ("plain",),
    "wrong": ("plain", "plain, same rate", "keras_reg"),
}
RESULTS = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results" / "quickstart.json"


# %% [markdown]
# Three tasks, each with the runs that are compared. Other images than digits get the first task alone: whether their
# labels are wrong is not known.


# %%
def tasks(digits=True, labeled=LABELED, epochs=None):
    few = Task(labeled, 0.0, epochs or EPOCHS, 20)
    if not digits:
        return {"few": few}
    wrong = Task(LABELED_WRONG, 0.3, epochs or EPOCHS_WRONG, 1)
    return {"few": few, "twice": few._replace(labeled=2 * labeled), "wrong": wrong}


def plan(chosen, seeds, parts=False):
    """(task, run, seed) of all runs: those of the table or, with `parts`, also those that the picture shows."""
    return [
        (task, run, seed)
        for task in chosen
        for seed in seeds
        for run in (RUNS if parts and task != "twice" else COMPARED[task])
    ]


def optimizer(task, run):
    """The learning rate of a run, and whether it falls along half a cosine."""
    return PLAIN["wrong" if task == "wrong" else "few"] if run == "plain" else RECIPE


# %% [markdown]
# Each run is saved as soon as it is finished.


# %%
def compare(source, chosen, seeds, out, parts=False, processes=1):
    """Trains all networks of `plan`. The seed also selects the labeled images."""
    todo = plan(chosen, seeds, parts)
    jobs = [(source, chosen[task], RUNS[run], seed, optimizer(task, run)) for task, run, seed in todo]
    progress = Progress([chosen[task] for task, _, _ in todo])
    print(f"{len(todo)} trainings, {processes} at a time\n", flush=True)
    found = {"backend": keras.backend.backend(), "tasks": {k: t._asdict() for k, t in chosen.items()}}
    runs = {}
    for number, measured in train_all(jobs, processes):
        task, run, seed = todo[number]
        shown = f"{100 * measured['test'][-1]:5.1f} % of {measured.pop('images')} test images"
        progress.end(chosen[task], f"{describe(chosen[task]):30} {run:16} seed {seed}  {shown}")
        runs[number] = {"task": task, "run": run, "seed": seed, **measured}
        found["runs"] = [runs[number] for number in sorted(runs)]
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def describe(task):
    return f"{task.labeled} labels" + (f", {task.wrong:.0%} of them wrong".replace("%", " %") if task.wrong else "")


# %% [markdown]
# The table has the means and standard deviations over the seeds, and the gain of each seed.


# %%
def values(runs, task, run, key=lambda measured: measured["test"][-1]):
    return np.array([key(measured) for measured in runs if (measured["task"], measured["run"]) == (task, run)])


def best(measured):
    return max(measured["test"])


def rows(found):
    """(label, plain, keras_reg) of each row of the table; a heading has no values."""
    runs, chosen = found["runs"], {name: Task(**task) for name, task in found["tasks"].items()}
    few, regularized = chosen["few"].labeled, values(runs, "few", "keras_reg")
    yield f"{few} labels", None, None
    yield "  test images", values(runs, "few", "plain"), regularized
    for label, key in (("shifted by one pixel (1)", "shifted"), ("with a box hidden", "occluded")):
        both = (values(runs, "few", run, lambda measured, key=key: measured[key]) for run in COMPARED["few"])
        yield (f"  test images {label}", *both)
    if "wrong" not in chosen:
        return
    yield f"  plain with {2 * few} labels", values(runs, "twice", "plain"), regularized
    regularized = values(runs, "wrong", "keras_reg")
    yield describe(chosen["wrong"]), None, None
    yield "  last epoch", values(runs, "wrong", "plain"), regularized
    yield "  last epoch, plain at the same rate (2)", values(runs, "wrong", "plain, same rate"), regularized
    peaks = [values(runs, "wrong", run, best) for run in ("plain", "plain, same rate")]
    yield "  plain at its best epoch (3)", np.maximum(*peaks), regularized


def table(found):
    lines = [f"{'':40} {'plain':>13} {'keras_reg':>13}   difference, of each seed"]
    for label, plain, regularized in rows(found):
        if plain is None:
            lines.append(f"\n{label}")
            continue
        gain = 100 * (regularized - plain)
        each = " ".join(f"{value:+.1f}" for value in gain)
        lines.append(f"{label:40} {summary(plain):>13} {summary(regularized):>13}   {gain.mean():+5.1f}   ({each})")
    lines.append("\n(1) The recipe shifts its training images by up to one pixel, so this is what it trains for.")
    if "wrong" in found["tasks"]:
        rate, recipe = PLAIN["wrong"]["learning_rate"], RECIPE["learning_rate"]
        lines += [
            f"(2) Elsewhere, plain has the learning rate that suits it best: {rate:g} for wrong labels. With the rate",
            f"    of keras_reg, {recipe:g} and falling along half a cosine, it also learns the wrong labels.",
            "(3) Of both rates, by the true labels of the test images. Without clean labels, nobody knows this epoch.",
        ]
    return "\n".join(lines)


# %%
def main(source=None, labeled=LABELED, seeds=3, epochs=None, out="runs", smoke=False, parts=False, processes=1):
    if smoke:
        seeds, epochs = 1, 2
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    chosen = tasks(source is None, labeled, epochs)
    found = compare(source, chosen, range(seeds), out / "quickstart.json", parts, processes)
    print(f"\n{table(found)}")
    first = load(source, Task(**found["tasks"]["few"]), 0)
    with_parts = found if parts and source is None else json.loads(RESULTS.read_text(encoding="utf-8"))
    draw(found, with_parts, first, out / "quickstart.png")
    print(f"\nCurves, the share of each part, and training images with their labels: {out / 'quickstart.png'}")
    return found["runs"]


if __name__ == "__main__":
    parser = command_line("The same network with and without keras_reg", None, "one seed, two epochs", LABELED)
    parser.add_argument("--parts", action="store_true", help="also train with a part of the recipe, for the picture")
    parser.add_argument("--choose", action="store_true", help="compare settings on seeds that are not reported")
    cores = min(4, os.cpu_count() or 1)
    parser.add_argument("--processes", type=int, help=f"trainings at a time (default: {cores} for digits, otherwise 1)")
    given = parser.parse_args()
    processes = given.processes or (1 if given.smoke or given.data else cores)
    if given.choose:
        choose(pathlib.Path(given.out) / "quickstart_choice.json", given.smoke)
    else:
        main(given.data, given.labeled, given.seeds, given.epochs, given.out, given.smoke, given.parts, processes)
