"""Tables and the figure of `wrong_labels.py`.

`python examples/wrong_labels_results.py` makes those of docs/wrong_labels.md from docs/results.
"""

import json
import pathlib
import re

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from saved_figures import save

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
KINDS = {"symmetric": "any class", "pairs": "next class"}
STOPS = {  # rows of callbacks that stop: the method that they watched, and their name in the results
    "plain, EarlyStopping of Keras": ("plain", "EarlyStopping of Keras"),
    "plain, SmoothedEarlyStopping": ("plain", "SmoothedEarlyStopping"),
    "plain, SmoothedEarlyStopping on accuracy": ("plain", "SmoothedEarlyStopping, val_accuracy"),
    "plain, DivergenceStop": ("plain", "DivergenceStop"),
    "plain, DivergenceStop on val_loss": ("plain", "DivergenceStop, val_loss"),
    "combination, SmoothedEarlyStopping": ("combination", "SmoothedEarlyStopping"),
}
COLORS = {
    "plain": "#222222", "plain, another learning rate": "#66c2c2", "plain, SmoothedEarlyStopping": "#3b76af",
    "Dropout": "#b8a13a",
    "LabelSmoothingCrossentropy": "#8c6bb1", "LabelNoise": "#999999", "MixUp": "#e08a4a", "CutMix": "#4c9a6a",
    "combination": "#d0402b",
}  # fmt: skip
ORDER = list(COLORS)
SHOWN = {"plain, another learning rate": "plain, learning rate 3e-4"}  # the better one of two
THICK = ("plain", "plain, SmoothedEarlyStopping", "combination")


def cases(done, least=0):
    """The conditions of the finished runs. Those without wrong labels count for both kinds."""
    found = {(one["kind"], one["wrong"]) for one in done["runs"] if one["wrong"] >= least}
    return sorted(found, key=lambda case: (case[0] == "pairs", case[1]))


def methods(done):
    found = {one["method"] for one in done["runs"]}
    return sorted(found, key=lambda method: ORDER.index(method) if method in ORDER else len(ORDER))


def stops_of(done):
    """The rows of the callbacks whose method was trained."""
    return [row for row, (method, _) in STOPS.items() if method in methods(done)]


def runs_of(done, row, case):
    method = STOPS[row][0] if row in STOPS else row
    found = [one for one in done["runs"] if one["method"] == method and (one["kind"], one["wrong"]) == case]
    return sorted(found, key=lambda one: one["seed"])


def values(done, row, case, curve="test"):
    """Percentages per seed, of the network with which a method or a callback ends."""
    runs = runs_of(done, row, case)
    kept = [one["stops"][STOPS[row][1]]["kept"] if row in STOPS else -1 for one in runs]
    return 100 * np.array([one[curve][epoch] for one, epoch in zip(runs, kept, strict=True)])


def spread(numbers):
    deviation = f" ± {numbers.std(ddof=1):.1f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.1f}{deviation}" if len(numbers) else ""


def table(done, first, rows, least, cell):
    """A Markdown table with one column per condition."""
    columns = cases(done, least)
    head = [f"{wrong} %, {KINDS[kind]}" if wrong else "0 %" for kind, wrong in columns]
    lines = [[first, *head], ["---", *["--:"] * len(head)]]
    lines += [[SHOWN.get(row, row), *(cell(row, case) for case in columns)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracies(done):
    """Accuracy on the test images at the end, and in brackets that of the best epoch."""

    def cell(row, case):
        best = [100 * max(one["test"]) for one in runs_of(done, row, case)]
        return spread(values(done, row, case)) + (f" ({np.mean(best):.1f})" if best and row not in STOPS else "")

    return table(done, "accuracy in %", [*methods(done), *stops_of(done)], 0, cell)


def remembered(done):
    """Share of the wrong training labels that the network predicts at the end."""
    rows = [*methods(done), *stops_of(done)]
    return table(done, "remembered in %", rows, 1, lambda row, case: spread(values(done, row, case, "remembered")))


def epochs(done):
    """Mean number of trained epochs, and in brackets the epoch whose weights are kept."""

    def cell(row, case):
        stops = [one["stops"][STOPS[row][1]] for one in runs_of(done, row, case)]
        trained, kept = (np.mean([stop[key] for stop in stops]) for key in ("trained", "kept"))
        return f"{trained:.0f} ({kept + 1:.0f})"

    return table(done, "trained epochs", stops_of(done), 0, cell)


def choice(done):
    """One row per strength that was tried on another split."""
    lines = ["| method | strength | last epoch | best epoch | remembered |", "| --- | --: | --: | --: | --: |"]
    for one in done["runs"]:
        numbers = one["test"][-1], max(one["test"]), one["remembered"][-1]
        lines.append(f"| {one['method']} | {one['strength']} | " + " | ".join(f"{100 * n:.1f}" for n in numbers) + " |")
    return "\n".join(lines)


TABLES = {"accuracies": accuracies, "remembered": remembered, "epochs": epochs}


def tables(done):
    return "\n\n".join(make(done) for make in TABLES.values())


def fill(page, *measured):
    """The page with the tables between `<!-- digits accuracies -->` and `<!-- end -->` made anew.

    `measured` are pairs of the results and those of the choice of strengths.
    """
    for done, tried in measured:
        data = done["settings"]["data"]
        for name, text in {**{name: make(done) for name, make in TABLES.items()}, "choice": choice(tried)}.items():
            pattern = re.compile(rf"(<!-- {data} {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            page = pattern.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
    return page


def draw(all_done, path):
    """Accuracy and remembered share against the share of wrong labels: two columns per set of results."""
    size = (1.6 + 3.9 * len(all_done) * 2 / (1 + 0.3 * (len(all_done) - 1)), 6.6)
    figure, axes = plt.subplots(2, 2 * len(all_done), figsize=size, sharex=True, sharey="row", squeeze=False)
    places = [(done, kind) for done in all_done for kind in KINDS]
    for column, (done, kind) in zip(axes.T, places, strict=True):
        column[0].set_title(
            f"{done['settings']['data']}: wrong labels are {'any' if kind == 'symmetric' else 'the next'} class"
        )
        for row in COLORS:
            draw_row(column, done, row, kind)
    axes[0, 0].set_ylabel("accuracy on correct labels (%)")
    axes[1, 0].set_ylabel("wrong labels remembered (%)")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#eeeeee")
        axis.set_axisbelow(True)
    for axis in axes[1]:
        axis.set(xlabel="wrong labels (%)", xticks=(0, 20, 40), ylim=(-3, 103))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    save(figure, path, all_done, dpi=90)


def draw_row(axes, done, row, kind):
    style = {"color": COLORS[row], "lw": 2.4 if row in THICK else 1.4, "ms": 5 if row in THICK else 3.5}
    style["label"] = SHOWN.get(row, row)
    for axis, curve in zip(axes, ("test", "remembered"), strict=True):
        found = {
            case[1]: values(done, row, case, curve)
            for case in cases(done, curve != "test")
            if kind in case or not case[1]
        }
        found = {wrong: numbers for wrong, numbers in found.items() if len(numbers)}
        if found:
            axis.plot(found.keys(), [numbers.mean() for numbers in found.values()], "o-", **style)
            low, high = ([f(numbers) for numbers in found.values()] for f in (np.min, np.max))
            axis.vlines(found.keys(), low, high, color=COLORS[row], lw=1)


def results(name):
    return json.loads((DOCS / "results" / f"wrong_labels_{name}.json").read_text(encoding="utf-8"))


def all_results():
    """The results on digits and on features, each with those of the choice of strengths."""
    return [(results(name), results(f"{name}_choice")) for name in ("digits", "features")]


def main(page=DOCS / "wrong_labels.md", folder=DOCS / "figures"):
    measured = all_results()
    page.write_text(fill(page.read_text(encoding="utf-8"), *measured), encoding="utf-8")
    for (done, _), name in zip(measured, ("wrong_labels", "wrong_labels_features"), strict=True):
        draw([done], folder / f"{name}.png")


if __name__ == "__main__":
    main()
