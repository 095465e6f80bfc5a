# %% [markdown]
# # Why the upper half of the small ladder does not rise: epochs and strengths
#
# The upper rungs of `cifar10_ladder.py` lose accuracy at the small size. This script trains the rung with flips and the
# top rung for different numbers of epochs, the top rung also with weaker regularization. Everything is judged on
# training images that no run uses for training, never on the test images, so that the ladder can use what is found.

# %%
import dataclasses
import json
import os
import pathlib
import sys

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import saved_figures
from cifar10_ladder import SMOKE, standardized, train
from cifar10_results import spread
from cifar10_rungs import SIZES, recipe
from example_data import command_line, load
from saved_runs import resume, save

FLIPS, TOP = "+ flip, crop with padding 2", "+ average of the weights"
EPOCHS = (20, 40, 80, 160)
CURVES = ((FLIPS, 1.0), (TOP, 1.0), (TOP, 0.5), (TOP, 0.25))  # rungs and strengths
FIRST_SEED = 100  # the ladder has the seeds from 0 on
COLORS = {(FLIPS, 1.0): "#3b6ea5", (TOP, 1.0): "#7d1d10", (TOP, 0.5): "#d0402b", (TOP, 0.25): "#f0a080"}


# %% [markdown]
# The images for training and those to judge by are both training images of CIFAR-10, and do not overlap.


# %%
def split(data, labeled, judged, seed):
    """Data whose training images are `labeled` of the given ones, and whose validation images are `judged` others."""
    order = np.random.default_rng(seed).permutation(len(data.x_train))
    chosen, others = order[:labeled], order[labeled : labeled + judged]
    x, y = data.x_train, data.y_train
    return data._replace(x_train=x[chosen], y_train=y[chosen], x_val=x[others], y_val=y[others])


def weakened(on, strength, epochs, usual):
    """The recipe with all regularization multiplied by `strength`, and with the same last learning rate."""
    scaled = {name: strength * getattr(on, name) for name in ("dropout", "l2", "rotation", "smoothing", "bn_noise")}
    return dataclasses.replace(
        on,
        **scaled,
        drop_path=strength * on.drop_path,
        share_erased=strength * on.share_erased,
        share_mixed=strength * on.share_mixed,
        gamma=on.gamma ** (usual / epochs),
    )


def sweep(source, size, seeds, epochs, judged, path, strengths=None):
    """Trains everything that is missing in the JSON file at `path`. Returns all results."""
    curves = [(rung, strength) for rung, strength in CURVES if strengths is None or strength in strengths]
    everything = load(source)
    settings = {
        "data": everything.name, "judged_on": judged, "backend": keras.backend.backend(),
        **json.loads(json.dumps(dataclasses.asdict(size))),
    }  # fmt: skip
    done = resume(path, settings)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        data = standardized(split(everything, size.labeled, judged, seed))
        for count in epochs:
            for rung, strength in curves:
                case = {"rung": rung, "strength": strength, "epochs": count, "seed": seed}
                if any(case.items() <= run.items() for run in done["runs"]):
                    continue
                on = weakened(recipe(rung), strength, count, size.epochs)
                found = train(on, dataclasses.replace(size, epochs=count), data, seed)
                done["runs"].append({**case, **found})
                save(done, path)
                accuracies = f"train {found['train']:.4f}  held out {found['validation']:.4f}"
                print(f"  {count:4} epochs  {rung:28} x {strength:<4}  {accuracies}", flush=True)
    return done


# %% [markdown]
# One line per rung and strength: accuracy on the images that were held out, and on the training images. In the figure,
# dots are means, and dashes are the seeds.


# %%
def values(done, rung, strength, key):
    """The epochs that are finished, and the accuracies in percent, with one column per seed."""
    runs = [run for run in done["runs"] if (run["rung"], run["strength"]) == (rung, strength)]
    epochs = sorted({run["epochs"] for run in runs})
    return epochs, [[100 * run[key] for run in runs if run["epochs"] == count] for count in epochs]


def table(done):
    """The results as a Markdown table: means, and standard deviations where there are several seeds."""
    epochs = sorted({run["epochs"] for run in done["runs"]})
    lines = ["| rung | strength | " + " | ".join(f"{count} epochs" for count in epochs) + " |"]
    lines.append("| --- | ---: |" + " ---: |" * len(epochs))
    for rung, strength in CURVES:
        finished, held_out = values(done, rung, strength, "validation")
        trained = values(done, rung, strength, "train")[1]
        cells = {
            count: f"{spread(np.array(held))} ({np.mean(fit):.1f})"
            for count, held, fit in zip(finished, held_out, trained, strict=True)
        }
        lines.append(f"| {rung} | {strength} | " + " | ".join(cells.get(count, "") for count in epochs) + " |")
    return "\n".join(lines)


def draw(done, path):
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, key, title in zip(axes, ("validation", "train"), ("images held out", "training images"), strict=True):
        for rung, strength in CURVES:
            epochs, found = values(done, rung, strength, key)
            name = "flips" if rung == FLIPS else f"top rung, strength {strength:g}"
            color = COLORS[rung, strength]
            axis.plot(epochs, [np.mean(one) for one in found], "o-", color=color, label=name)
            for count, one in zip(epochs, found, strict=True):
                if len(one) > 1:
                    axis.plot([count] * len(one), one, "_", color=color, markersize=12)
        axis.set_xscale("log", base=2)
        ticks = sorted({run["epochs"] for run in done["runs"]})
        axis.set_xticks(ticks, ticks)
        axis.set(xlabel="epochs", title=f"Accuracy (%) on {title}")
        axis.grid(axis="y", color="#eeeeee")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    saved_figures.save(figure, path, done, dpi=110)


# %%
def main(source=None, labeled=None, seeds=1, epochs=None, strengths=None, out="runs", show=None, smoke=False):
    out = pathlib.Path(out)
    if show:
        done = json.loads(pathlib.Path(show).read_text())
    else:
        given = SMOKE if smoke else {"labeled": labeled} if labeled else {}
        size = dataclasses.replace(SIZES["small"], **given)
        path = out / f"ladder_sweep{'_smoke' if smoke else ''}.json"
        if smoke:
            path.unlink(missing_ok=True)
        epochs = (1, 2) if smoke else epochs or EPOCHS
        done = sweep(source, size, seeds, epochs, 64 if smoke else 5000, path, strengths)
    draw(done, out / "ladder_sweep.png")
    print(table(done))
    return done


if __name__ == "__main__":
    parser = command_line(__doc__, None, "a quick run with one and two epochs and a tiny network", labeled=None)
    strengths = sorted({strength for _, strength in CURVES})
    parser.add_argument("--strengths", type=float, nargs="+", choices=strengths, help="default: all")
    parser.add_argument("--show", metavar="JSON", help="draw and print these results without training")
    parser.set_defaults(seeds=1)
    given = vars(parser.parse_args())
    del given["backend"]  # set above, before Keras was imported
    given["epochs"] = given["epochs"] and (given["epochs"],)
    main(given.pop("data"), **given)
