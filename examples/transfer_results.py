"""Shows the results of `transfer_learning.py` as a Markdown table and as a figure.

cd docs && python ../examples/transfer_results.py results/transfer.json --figure figures/transfer.png \
    --pages transfer.md ../examples/notebooks/06_transfer_learning.py
"""

import argparse
import json
import pathlib
import re

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from saved_figures import save
from transfer_recipes import NAMES

COLORS = ("#b3741c", "#3b6ea5", "#d0402b")


def accuracies(done, recipe, per_class):
    """Accuracies in percent, in the order of the seeds."""
    runs = [run for run in done["runs"] if run["recipe"] == recipe and run["per_class"] == per_class]
    return np.array([100 * run["accuracy"] for run in sorted(runs, key=lambda run: run["seed"])])


def names_and_sizes(done):
    """The recipes and the numbers of images per class that have results."""
    found = {run["recipe"] for run in done["runs"]}
    return [name for name in NAMES if name in found], sorted({run["per_class"] for run in done["runs"]})


def cell(values, seeds=3):
    """The mean and the standard deviation over seeds; with fewer seeds than usual, their number."""
    if not len(values):
        return ""
    deviation = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    fewer = f" ({len(values)} seed{'s' if len(values) > 1 else ''})" if len(values) < seeds else ""
    return f"{values.mean():.1f}{deviation}{fewer}"


def table(done):
    recipes, sizes = names_and_sizes(done)
    lines = ["| recipe | " + " | ".join(f"{size} per class" for size in sizes) + " |"]
    lines.append("| --- |" + " --: |" * len(sizes))
    for recipe in recipes:
        lines.append(f"| {recipe} | " + " | ".join(cell(accuracies(done, recipe, size)) for size in sizes) + " |")
    return "\n".join(lines)


def draw(done, path):
    """Draws a dot per run, and a line at the mean of each recipe and number of images."""
    recipes, sizes = names_and_sizes(done)
    figure, axis = plt.subplots(figsize=(8, 1.3 + 0.36 * len(recipes)))
    for size, color in zip(sizes, COLORS, strict=False):
        label = f"{size} images per class"
        for row, recipe in enumerate(recipes):
            values = accuracies(done, recipe, size)
            if len(values):
                axis.plot(values, [row] * len(values), "o", color=color, markersize=5, alpha=0.75, label=label)
                axis.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=color, linewidth=2)
                axis.annotate(f"{values.mean():.1f}", (values.mean(), row - 0.36), ha="center", fontsize=8, color=color)
                label = None
    axis.set(yticks=range(len(recipes)), yticklabels=recipes, xlabel="test accuracy (%)")
    axis.set_ylim(len(recipes) - 0.4, -0.8)
    axis.grid(axis="y", color="#eeeeee")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(sizes))
    figure.tight_layout()
    save(figure, path, done, dpi=110)


def renew(page, done):
    """Replaces the table on a page."""
    text, count = re.subn(r"\| recipe \|[^\n]*per class(.*\n)(\|.*\n)+", table(done) + "\n", page)
    if count != 1:
        raise ValueError(f"Expected a page with one table of results. Received: {count} tables")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path, help="the JSON of transfer_learning.py")
    parser.add_argument("--pages", type=pathlib.Path, nargs="+", default=[], help="pages whose table is replaced")
    parser.add_argument("--figure", type=pathlib.Path, help="where the figure is drawn")
    given = parser.parse_args()
    done = json.loads(given.results.read_text(encoding="utf-8"))
    print(table(done))
    for page in given.pages:
        page.write_text(renew(page.read_text(encoding="utf-8"), done), encoding="utf-8")
    if given.figure:
        draw(done, given.figure)
