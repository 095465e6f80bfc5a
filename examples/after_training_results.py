"""Tables, sentences and the figure of `after_training.py`.

`python examples/after_training_results.py` makes those of docs/after_training.md from docs/results.
"""

import json
import pathlib
import re

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from after_training_rows import PLAIN as BASE
from after_training_rows import SETTINGS_OF, rows
from effects_results import UNCLEAR
from effects_results import verdict as verdict_on_accuracies
from saved_figures import save

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
COLORS = {"better": "#2a7a3b", "worse": "#d0402b"}
MEASURES = {"accuracy": (100, 1), "nll": (1, 3), "ece": (100, 1)}  # factor, digits
TITLES = {"accuracy": "accuracy (%)", "nll": "negative log-likelihood", "ece": "calibration error (%)"}


def load(name, folder=DOCS / "results"):
    """The results `after_training_<name>.json` in a folder, or else the published ones, or else no runs."""
    for place in (folder, DOCS / "results"):
        path = place / f"after_training_{name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
    return {"runs": []}


# Numbers.


def chosen(choice):
    """{row: label} with the lowest negative log-likelihood. The learning rate has the highest accuracy."""
    found = {}
    for one in choice["runs"]:
        found.setdefault(one["row"], {}).setdefault(one["label"], []).append(score(one))
    return {row: min(labels, key=lambda label: np.mean(labels[label])) for row, labels in found.items()}


def score(one):
    return -one["accuracy"] if one["row"] == BASE else one["nll"]


def names(done):
    """The measured rows in their order, with their labels."""
    found = {one["row"]: one["label"] for one in done["runs"]}
    return {row: found[row] for row in rows(done["settings"]["kind"]) if row in found}


def values(done, row, key):
    runs = sorted((one for one in done["runs"] if one["row"] == row), key=lambda one: one["seed"])
    return np.array([one[key] for one in runs if key in one])


def spread(numbers, factor=1, digits=1):
    numbers = factor * numbers
    deviation = f" ± {numbers.std(ddof=1):.{digits}f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.{digits}f}{deviation}"


def verdict(before, after):
    """ "better" or "worse" if losses of all seeds agree, by more than two standard errors of their differences."""
    differences = after - before
    if len(differences) < 2 or abs(np.sign(differences).sum()) < len(differences):
        return UNCLEAR
    if abs(differences.mean()) <= 2 * differences.std(ddof=1) / len(differences) ** 0.5:
        return UNCLEAR
    return "better" if differences.mean() < 0 else "worse"


def against(done, row, measure, base=BASE):
    """The verdict on a row, compared with another one. Accuracies are compared as on docs/effects.md."""
    before, after = (values(done, name, measure) for name in (base, row))
    if row == base or len(after) < 2 or len(before) != len(after):
        return UNCLEAR
    if measure == "accuracy":
        return verdict_on_accuracies(100 * before, 100 * after, done["settings"]["tested"])
    return verdict(before, after)


def line(found):
    """One run on the console."""
    after = ", ".join(f"{found[f'calibrated {key}']:.3f}" for key in ("nll", "ece") if f"calibrated {key}" in found)
    now = f"accuracy {100 * found['accuracy']:.1f} %, NLL {found['nll']:.3f}, ECE {found['ece']:.3f}"
    return f"{now}{f', calibrated {after}' if after else ''}, {found['train_seconds']:.1f} s of training"


# Tables.


def markdown(head, lines):
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [head, rule, *lines])


def marked(text, kind):
    return f"**{text}**" if kind == "better" else f"{text} (worse)" if kind == "worse" else text


def titled(done, row):
    label = names(done)[row]
    return f"{row}<br>{f'`{label}`' if '(' in label else label}" if label else row


def table(done):
    """Quality and cost of each row. Times are relative to those of one network on the same split."""
    lines = []
    for row in names(done):
        cells = [marked(spread(values(done, row, key), *MEASURES[key]), against(done, row, key)) for key in MEASURES]
        times = [
            (values(done, row, key) / values(done, BASE, key)).mean() for key in ("train_seconds", "predict_seconds")
        ]
        counts = [int(values(done, row, key)[0]) for key in ("trainings", "passes")]
        costs = [f"{count} ({ratio:.1f})" for count, ratio in zip(counts, times, strict=True)]
        lines.append([titled(done, row), *cells, *costs])
    head = ["", "accuracy in %", "negative log-likelihood", "calibration error in %", "trainings", "passes"]
    return markdown(head, lines)


def temperatures(done):
    """What a fitted temperature changes in each row."""
    lines = []
    for row in names(done):
        if not len(values(done, row, "temperature")):
            continue
        cells = [spread(values(done, row, "temperature"), 1, 2)]
        for key in ("nll", "ece"):
            before, after = values(done, row, key), values(done, row, f"calibrated {key}")
            cells += [spread(before, *MEASURES[key]), marked(spread(after, *MEASURES[key]), verdict(before, after))]
        lines.append([row, *cells])
    head = [
        "",
        "temperature",
        "negative log-likelihood",
        "with temperature",
        "calibration error in %",
        "with temperature",
    ]
    return markdown(head, lines)


def choice(done):
    """One line per candidate on other splits: means, and the chosen ones in bold."""
    best, lines = chosen(done), []
    for row, label in dict.fromkeys((one["row"], one["label"]) for one in done["runs"]):
        runs = [one for one in done["runs"] if (one["row"], one["label"]) == (row, label)]
        numbers = [f"{factor * np.mean([one[key] for one in runs]):.{n}f}" for key, (factor, n) in MEASURES.items()]
        lines.append([row, f"**`{label}`**" if best[row] == label else f"`{label}`", *numbers])
    return markdown(["", "candidate", "accuracy in %", "negative log-likelihood", "calibration error in %"], lines)


TABLES = {"table": table, "temperatures": temperatures}


def fill(page, measured):
    """The page with its tables made anew. `measured` is {kind: (results, those of the choice)}."""
    for kind, (done, tried) in measured.items():
        texts = {**{name: make(done) for name, make in TABLES.items()}, "choice": choice(tried)}
        for name, text in texts.items():
            pattern = re.compile(rf"(<!-- {kind} {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            page = pattern.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
    return page


# The figure.


def draw(done, path):
    """Each seed as a dot, and the mean as a bar: full without a temperature, and open with a fitted one."""
    shown = list(names(done))
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 0.34 * len(shown) + 1.3), sharey=True, layout="constrained")
    for axis, key in zip(axes, MEASURES, strict=True):
        for height, row in enumerate(shown):
            draw_row(axis, done, row, key, height)
        base = MEASURES[key][0] * values(done, BASE, key).mean()
        axis.axvline(base, color="#bbbbbb", lw=0.8, zorder=0)
        axis.set_xlabel(TITLES[key])
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.grid(axis="y", color="#eeeeee")
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
    for axis in axes[1:]:
        low, high = axis.get_xlim()
        if low < high / 2:  # the best value, 0, is near
            axis.set_xlim(0, None)
    axes[0].set_yticks(range(len(shown)), shown, fontsize=9)
    axes[0].invert_yaxis()
    axes[1].plot([], [], "o", color="#555555", ms=4, label="as trained")
    axes[1].plot([], [], "o", color="#555555", ms=4, mfc="white", label="with fitted temperature")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    save(figure, path, done, dpi=90)


def draw_row(axis, done, row, key, height):
    color = COLORS.get(against(done, row, key), "#888888")
    for name, offset, fill in ((key, -0.14, color), (f"calibrated {key}", 0.18, "white")):
        found = MEASURES[key][0] * values(done, row, name)
        if len(found) and (name == key or key != "accuracy"):
            shown = dict(color=color if name == key else "#555555", mfc=fill)
            axis.plot(found, [height + offset] * len(found), "o", ms=4, **shown)
            axis.plot(found.mean(), height + offset, "|", ms=11, mew=1.6, color=shown["color"])


def measured():
    """{kind: (results, those of the choice)} for the published results."""
    found = {kind: (load(kind), load(f"{kind}_choice")) for kind in SETTINGS_OF}
    return {kind: both for kind, both in found.items() if both[0]["runs"]}


def main(page=DOCS / "after_training.md", folder=DOCS / "figures"):
    page.write_text(fill(page.read_text(encoding="utf-8"), measured()), encoding="utf-8")
    for kind, (done, _) in measured().items():
        draw(done, folder / f"after_training{'' if kind == 'digits' else f'_{kind}'}.png")


if __name__ == "__main__":
    main()
