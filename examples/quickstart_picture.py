"""Draws the picture of the quickstart.

python examples/quickstart_picture.py [docs/results/quickstart.json] [docs/figures/quickstart.png]
"""

import json
import pathlib
import sys

import digits
import keras
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from quickstart_training import MIXED, Task, load
from saved_figures import save

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS, PICTURE = ROOT / "docs" / "results" / "quickstart.json", ROOT / "docs" / "figures" / "quickstart.png"
COLORS = {"plain, same rate": "#848d97", "plain": "#57606a", "keras_reg": "#c8321f"}
BARS = {
    "plain, same rate": ("plain", "#6e7781"),
    "shift": ("+ shifts", "#eab2a5"),
    "shift, mix": ("+ mixing", "#dd7561"),
    "keras_reg": ("+ smoothing", "#c8321f"),
}
NAMES = {
    "plain, same rate": "plain, same\nlearning rate",
    "plain": "plain, at its\nbest rate",
    "keras_reg": "keras_reg",
}
INK, FAINT = "#1f2328", "#57606a"
STYLE = {"font.size": 11, "text.color": INK, "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT}


def draw(found, measured, data, path):
    """Curves of `found`, the share of each part in `measured`, and images of `data` as they are trained on."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(10, 6.6), facecolor="white")
        top, bottom = figure.subfigures(2, 1, height_ratios=(2.35, 1))
        left, right = top.subfigures(1, 2, width_ratios=(1.12, 1))
        draw_curves(left, found)
        draw_parts(right, measured, stored=measured is not found)
        draw_images(bottom, data)
        save(figure, path, found, dpi=150, colors=128)


def heading(figure, title, subtitle, x=0.09, y=0.95, step=0.075):
    figure.text(x, y, title, fontsize=13, fontweight="bold", va="center")
    figure.text(x, y - step, subtitle, fontsize=10.5, color=FAINT, va="center")


def draw_curves(figure, found):
    task = "wrong" if "wrong" in found["tasks"] else "few"
    settings = found["tasks"][task]
    heading(figure, title_of(settings), "accuracy on the test images, by epoch")
    axis = figure.add_axes((0.11, 0.1, 0.64, 0.73))
    low = 100.0
    for run, color in COLORS.items():
        runs = [r for r in found["runs"] if (r["task"], r["run"]) == (task, run)]
        if not runs:
            continue
        epochs, curves = runs[0]["epochs"], 100 * np.array([r["test"] for r in runs])
        mean = curves.mean(0)
        axis.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.2, lw=0)
        axis.plot(epochs, mean, color=color, lw=2.4)
        # The axis begins where the curves are of interest, after the first epochs.
        low = min(low, mean[len(mean) // 8 :].min())
        note = {
            "offset": (8, {"keras_reg": 9, "plain": -17}.get(run, 0)),
            "color": color,
            "weight": "bold" if run == "keras_reg" else "normal",
        }
        write_beside(axis, f"{NAMES[run]}\n{mean[-1]:.1f} %", (epochs[-1], mean[-1]), **note)
    axis.set(ylim=(max(0, 5 * np.floor((low - 2) / 5)), 100), xlim=(0, epochs[-1]))
    axis.yaxis.set_major_formatter("{x:.0f} %")
    axis.grid(axis="y", color="#d0d7de", lw=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(length=0)


def write_beside(axis, text, point, offset, color, weight):
    axis.annotate(text, point, offset, textcoords="offset points", color=color, fontweight=weight, va="center")


def title_of(settings):
    if settings["wrong"]:
        return f"{100 * settings['wrong']:.0f} % of {settings['labeled']} training labels are wrong"
    return f"{settings['labeled']} labeled images"


def draw_parts(figure, measured, stored):
    """Errors with one more part of the recipe after the other, from results that have the runs between."""
    heading(
        figure,
        "Fewer errors with each part",
        "test errors in %, as measured for the documentation"
        if stored
        else "test errors in %, all at one learning rate",
        x=0.04,
    )
    few, wrong = measured["tasks"]["few"]["labeled"], measured["tasks"]["wrong"]["wrong"]
    panels = [
        ("few", "final", f"trained on\n{few} labels"),
        ("few", "shifted", "tested on\nshifted images"),
        ("wrong", "final", f"trained with\n{100 * wrong:.0f} % wrong"),
    ]
    for number, (task, key, title) in enumerate(panels):
        axis = figure.add_axes((0.215 + 0.265 * number, 0.1, 0.225, 0.61))
        errors = [mean_error(measured["runs"], task, run, key) for run in BARS]
        for row, (error, (name, color)) in enumerate(zip(errors, BARS.values(), strict=True)):
            axis.barh(row, error, color=color, height=0.8)
            axis.annotate(f"{error:.1f}", (error, row), (4, 0), textcoords="offset points", va="center")
            if number == 0:
                axis.annotate(name, (0, row), (-7, 0), textcoords="offset points", ha="right", va="center")
        axis.set(xlim=(0, 1.6 * max(errors)), ylim=(len(BARS) - 0.5, -0.5), xticks=[], yticks=[])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.set_title(title, fontsize=10.5, pad=6, loc="left", linespacing=1.25)


def mean_error(runs, task, run, key):
    chosen = [r["test"][-1] if key == "final" else r[key] for r in runs if (r["task"], r["run"]) == (task, run)]
    return 100 * (1 - np.mean(chosen))


def draw_images(figure, data, count=8):
    """Images after the recipe; below each, a bar shows how much of its label belongs to which class."""
    heading(
        figure,
        "What the network trains on",
        "all images are shifted, and half are mixed by MixUp or CutMix, with their labels",
        0.05,
        0.93,
        0.14,
    )
    x, y = data.x_train[:64], np.eye(int(data.y_train.max()) + 1, dtype="float32")[data.y_train[:64]]
    padding = max(1, min(x.shape[1:3]) // 8)
    images, labels = (keras.ops.convert_to_numpy(a) for a in digits.augmentation(4, padding, rate=MIXED)(x, y))
    # Those that show both classes come first.
    order = np.argsort(labels.max(axis=1) > 0.85, kind="stable")[:count]
    for number, k in enumerate(order):
        place = 0.05 + 0.1165 * number
        axis = figure.add_axes((place, 0.265, 0.085, 0.49))
        image = np.clip(images[k], 0, 1)
        axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axis.axis("off")
        draw_label(figure.add_axes((place, 0.135, 0.085, 0.11)), labels[k])


def draw_label(axis, label):
    start = 0.0
    first, second = np.argsort(-label)[:2]
    for k, color, ink in ((first, "#0b5cad", "white"), (second, "#9fc9f2", INK)):
        if label[k] > 0.005:
            axis.barh(0, label[k], left=start, color=color, height=1)
            axis.text(start + label[k] / 2, 0, k, ha="center", va="center", color=ink, fontweight="bold")
            start += label[k]
    axis.text(
        0.5, -0.65, f"{100 * label[first]:.0f} % and {100 * label[second]:.0f} %", ha="center", va="top", fontsize=10
    )
    axis.set(xlim=(0, 1), ylim=(-0.5, 0.5))
    axis.axis("off")


def main(results=RESULTS, picture=PICTURE):
    found = json.loads(pathlib.Path(results).read_text(encoding="utf-8"))
    draw(found, found, load(None, Task(**found["tasks"]["few"]), 0), picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
