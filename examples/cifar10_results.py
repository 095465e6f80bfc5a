"""Merges the results of `cifar10_ladder.py`, and shows them as a Markdown table and a figure.

The results of the course come from other networks and all images. Only their order can be compared with ours.
"""

import json
import pathlib

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from cifar10_rungs import RUNGS
from saved_figures import save

RED, BLUE = "#d0402b", "#3b6ea5"


def merge(paths):
    """Merges the results of several processes that divided the seeds or the rungs."""
    found = [json.loads(pathlib.Path(path).read_text()) for path in paths]
    if any(one["settings"] != found[0]["settings"] for one in found):
        raise ValueError(f"Expected results of the same settings. Received: {paths}")
    runs = {(run["seed"], run["rung"]): run for one in found for run in one["runs"]}
    order = {name: index for index, name in enumerate(RUNGS)}
    return {**found[0], "runs": [runs[key] for key in sorted(runs, key=lambda key: (key[0], order[key[1]]))]}


def summary(done):
    """One row per finished rung, with arrays of percentages, sorted by seed."""
    rows = []
    for rung in RUNGS.values():
        runs = sorted((one for one in done["runs"] if one["rung"] == rung.name), key=lambda one: one["seed"])
        if runs:
            row = {key: np.array([one[key] for one in runs]) for key in runs[0] if key != "rung"}
            rows.append({**row, **{k: 100 * row[k] for k in ("train", "validation", "running")}, "rung": rung})
    return rows


def step(row, rows):
    """The differences in validation accuracy from the rung below, for the seeds that both rungs have."""
    below = next((other for other in rows if other["rung"].name == row["rung"].base), None)
    if below is None:
        return None
    _, here, there = np.intersect1d(row["seed"], below["seed"], return_indices=True)
    return row["validation"][here] - below["validation"][there]


def spread(values, sign="", digits=1):
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.{digits}f}{deviation}"


def table(done):
    """The results as a Markdown table."""
    rows, on_device = summary(done), done["settings"]["on_device"]
    time_name = "seconds" if on_device else "CPU seconds"
    lines = [f"| rung | train % | validation % | step | gap | seeds | epochs | {time_name} | course: validation % |"]
    lines.append("| --- |" + " --: |" * 8)
    for row in rows:
        steps = step(row, rows)
        seconds = row["seconds"] if on_device else row["cpu_seconds"]  # independent of other processes
        course = row["rung"].course
        cells = [
            row["rung"].name, spread(row["train"]), spread(row["validation"]),
            "" if steps is None or not len(steps) else spread(steps, "+"),
            f"{(row['train'] - row['validation']).mean():.1f}", f"{len(row['seed'])}",
            f"{row['epochs'][0]}", f"{seconds.mean():.0f}",
            "" if course is None else f"~{course[0]}" + (f" (train ~{course[1]})" if course[1] else ""),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(done, path):
    rows = summary(done)
    climbed, aside = ([row for row in rows if row["rung"].name.startswith("aside") == at] for at in (False, True))
    heights = [*range(len(climbed)), *(-1.8 - i for i in range(len(aside)))]
    figure, axis = plt.subplots(figsize=(10, 0.4 * len(rows) + 1.9), layout="constrained")
    for height, row in zip(heights, climbed + aside, strict=True):
        draw_rung(axis, height, row, labels=height == 0)
    axis.plot([row["validation"].mean() for row in climbed], heights[: len(climbed)], color=RED, lw=1, zorder=0)
    if aside:
        axis.axhline(-0.9, color="#bbbbbb", lw=0.8, ls=":")
    least = min(row["validation"].min() for row in rows)
    axis.set(xlim=(least - 6, 101), ylim=(heights[-1] - 0.6 if aside else -0.6, len(climbed) - 0.3))
    axis.set_yticks(heights, [row["rung"].name.removeprefix("aside: ") for row in climbed + aside])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#eeeeee", zorder=-1)
    axis.set_axisbelow(True)
    settings = done["settings"]
    axis.set_xlabel(
        f"accuracy (%): {settings['data']}, {settings['images']} training images, {settings['epochs']} epochs"
    )
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    axis.spines[["top", "right", "left"]].set_visible(False)
    save(figure, path, done)


def draw_rung(axis, height, row, labels):
    train, validation, course = row["train"].mean(), row["validation"].mean(), row["rung"].course
    name = (lambda text: text) if labels else (lambda text: None)
    axis.plot(
        [validation, train], [height] * 2, color="#dddddd", lw=7, solid_capstyle="butt", label=name("gap"), zorder=1
    )
    axis.plot(train, height, "o", mfc="white", color="#444444", ms=7, label=name("training"))
    axis.plot(row["validation"], [height] * len(row["validation"]), "|", color=RED, ms=11, label=name("each seed"))
    axis.plot(validation, height, "o", color=RED, ms=8, label=name("validation"))
    place = {"xytext": (-11, 0), "textcoords": "offset points", "ha": "right", "va": "center", "fontsize": 9}
    axis.annotate(f"{validation:.1f}", (row["validation"].min(), height), color=RED, **place)
    if course:
        label = name("the course's validation: all images, original pixels, other networks")
        axis.plot(course[0], height, "D", mfc="none", color=BLUE, ms=6, label=label)
