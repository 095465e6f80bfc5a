"""The results of `effects.py` as rows, sentences, Markdown tables and a figure."""

import matplotlib

matplotlib.use("agg")
import re

import matplotlib.pyplot as plt
import numpy as np
from effects_methods import ELSEWHERE
from effects_recipes import PLAIN
from effects_settings import MEASURES, SETTINGS
from saved_figures import save

UNCLEAR, NONE = "no clear effect", "none"
COLORS = {"better": "#2a7a3b", "worse": "#d0402b", UNCLEAR: "#999999", NONE: "#999999"}


def rows(found, effects):
    """One dict for each effect whose runs with reported seeds are all there."""
    made = []
    for effect in effects:
        if effect.name not in found["chosen"]:
            continue
        rate = found["rates"][effect.setting]
        labels = found["chosen"][effect.name]
        runs = [found["runs"].get(f"{effect.setting} | {label} | {rate}", {}) for label in labels]
        seeds = sorted(seed for seed in runs[1] if seed in runs[0] and int(seed) < 10)
        if seeds:
            without, with_it = (np.array([one[seed][effect.measure] for seed in seeds]) for one in runs)
            row = {"effect": effect, "labels": labels, "without": without, "with": with_it}
            images = SETTINGS[effect.setting].tested
            made.append({**row, "verdict": verdict(without, with_it, images)})
    return made


def verdict(without, with_it, images):
    """ "better" or "worse" if all seeds agree, by more than two standard errors of accuracies on so many images."""
    gains, share = with_it - without, with_it.mean() / 100
    if not gains.any():
        return NONE
    error = 100 * np.sqrt(2 * share * (1 - share) / (images * len(gains)))
    if abs(gains.mean()) <= 2 * error or abs(np.sign(gains).sum()) < len(gains):
        return UNCLEAR
    return "better" if gains.mean() > 0 else "worse"


def spread(values):
    deviation = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{deviation} %"


def code(label):
    """A label, formatted as code if it is a call."""
    return f"`{label}`" if re.fullmatch(r"\w+\(.*\)", label) else label


def sentence(row):
    """What the card of a method states."""
    effect, (baseline, chosen) = row["effect"], row["labels"]
    without = "without it" if baseline == PLAIN else f"with {code(baseline)}"
    ends = {
        "better": "",
        "worse": ", which is worse",
        UNCLEAR: f": {UNCLEAR} here",
        NONE: ", with the same result in every run",
    }
    each = ", ".join(f"{gain:+.1f}" for gain in row["with"] - row["without"])
    differences = "" if row["verdict"] == NONE else f" (differences of the seeds: {each})"
    mark = "**" if row["verdict"] in ("better", "worse") else ""
    return (
        f"On {SETTINGS[effect.setting].title}, {MEASURES[effect.measure]} was {spread(row['without'])} {without} and "
        f"{mark}{spread(row['with'])}{mark} with {code(chosen)}"
        f"{ends[row['verdict']]}{differences}."
    )


# Tables.


def table(made):
    lines = ["| method | setting | accuracy | without | with | difference of each seed | effect |"]
    lines.append("| --- | --- | --- | --: | --: | --- | --- |")
    for row in made:
        effect, (baseline, chosen) = row["effect"], row["labels"]
        each = ", ".join(f"{gain:+.1f}" for gain in row["with"] - row["without"])
        without = spread(row["without"]) + ("" if baseline == PLAIN else f"<br>{code(baseline)}")
        verdict = f"**{row['verdict']}**" if row["verdict"] in ("better", "worse") else row["verdict"]
        cells = [code(chosen), effect.setting, MEASURES[effect.measure], without, spread(row["with"]), each, verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def baselines(found):
    """The settings, with the learning rate that was chosen for their networks, and what these reach."""
    lines = ["| setting | data and network | epochs | batch | learning rate | last epoch | best epoch |"]
    lines.append("| --- | --- | --: | --: | --: | --: | --: |")
    for name, setting in SETTINGS.items():
        rate = found["rates"].get(name)
        runs = found["runs"].get(f"{name} | {PLAIN} | {rate}", {})
        reported = [one for seed, one in sorted(runs.items()) if int(seed) < 10]
        if reported:
            last, best = (spread(np.array([one[key] for one in reported])) for key in ("test", "best"))
            cells = [name, setting.title, setting.epochs, setting.batch, rate, last, best]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def elsewhere():
    lines = ["| name | where, or why not |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {reason} |" for name, reason in ELSEWHERE.items())])


# The figure.


def draw(made, path, found):
    """Differences from the baseline. Those on changed test images are larger, and have their own scale."""
    groups = [[row for row in made if (row["effect"].measure == "test") == plain] for plain in (True, False)]
    titles = "Accuracy on the test images", "What the method is made for: changed images, noisy weights, no jumps"
    shown = [(title, group) for title, group in zip(titles, groups, strict=True) if group]
    if not shown:
        return
    heights = [len(group) + 1 for _, group in shown]
    figure, axes = plt.subplots(
        len(shown), figsize=(9, 0.25 * sum(heights) + 1.3), height_ratios=heights, layout="constrained", squeeze=False
    )
    for axis, (title, group) in zip(axes[:, 0], shown, strict=True):
        draw_group(axis, sorted(group, key=lambda row: (row["with"] - row["without"]).mean()))
        axis.set_title(title, fontsize=10, loc="left")
    axes[-1, 0].set_xlabel("difference from the baseline in points: each seed, their range and mean")
    save(figure, path, found, dpi=110)


def draw_group(axis, group):
    for height, row in enumerate(group):
        gains, color = row["with"] - row["without"], COLORS[row["verdict"]]
        axis.plot([gains.min(), gains.max()], [height] * 2, color=color, lw=3, alpha=0.4, solid_capstyle="round")
        axis.plot(gains, [height] * len(gains), "o", color=color, ms=4.5)
        axis.plot(gains.mean(), height, "|", color=color, ms=13, mew=2)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(group)), [row["effect"].name for row in group], fontsize=9)
    for label, row in zip(axis.get_yticklabels(), group, strict=True):
        label.set_color("black" if row["verdict"] in ("better", "worse") else "#999999")
    axis.set_ylim(-0.7, len(group) - 0.3)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#eeeeee")
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
