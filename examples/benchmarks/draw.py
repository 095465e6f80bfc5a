"""Draws what the benchmarks found: users.png, performance.png (single calls) and scale.png (cost over size).

python examples/benchmarks/draw.py docs/results/performance.json --out docs/figures
"""

import argparse
import json
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import matplotlib.ticker
from rows import CHAIN, TARGETED

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from saved_figures import save

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
BEST = {"tensorflow": ("xla", "graph"), "jax": ("jit",), "torch": ("eager",)}  # the modes that are compared
COLOURS = {
    "keras_reg": "#d0402b",
    "Keras": "#5b6b7a",
    "keras-aug": "#7fa8c9",
    "KerasCV": "#b7c4ce",
    "timm": "#e0a93b",
    "timm in place": "#f0d9a4",
    "torchvision": "#b98a5e",
    "kornia": "#86a873",
}


def best(rows, backend, size):
    """{layer: {who: row}} in float32, each contender in the mode in which it is fastest.

    The copy is the median over all layers of a machine: where Linux tidies its memory, one may take ten times as long.
    """
    found, copies = {}, {}
    rows = [row for row in rows if row["size"] == size and row["dtype"] == "float32"]
    for row in rows:
        copies.setdefault(row.get("cpu"), []).append(row["copy"])
    copies = {cpu: statistics.median(values) for cpu, values in copies.items()}
    for row in [{**row, "copy": copies[row.get("cpu")]} for row in rows if row["mode"] in BEST[backend]]:
        here = found.setdefault(row["layer"], {})
        if row["who"] not in here or row["ms"] < here[row["who"]]["ms"]:
            here[row["who"]] = row
    return found


def draw_layers(results, path):
    backends = [backend for backend in BACKENDS if backend in results]
    sizes = list(dict.fromkeys(row["size"] for backend in backends for row in results[backend]["rows"]))[:2]
    shape = len(sizes), len(backends)
    figure, axes = plt.subplots(*shape, figsize=(5 * shape[1] + 2, 4.6 * shape[0]), sharex=True, squeeze=False)
    for i, size in enumerate(sizes):
        for j, backend in enumerate(backends):
            draw_bars(axes[i, j], best(results[backend]["rows"], backend, size), j == 0)
            axes[i, j].set_title(f"{BACKENDS[backend]}, {size}", fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("time of a batch over the time of NumPy's fresh copy of it")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="upper center", ncol=len(COLOURS), frameon=False, fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    save(figure, path, results, dpi=75, colors=64)


def draw_bars(axis, found, named):
    places, names = [], []
    y = 0.0
    for layer in [row for row in (*TARGETED, CHAIN) if row in found]:
        top = y
        for who in [who for who in COLOURS if who in found[layer]]:
            row = found[layer][who]
            axis.barh(y, row["ms"] / row["copy"], height=0.85, left=0, color=COLOURS[who])
            axis.text(row["ms"] / row["copy"] * 1.06, y, _short(row["ms"] / row["copy"]), va="center", fontsize=7)
            y += 1
        places.append((top + y - 1) / 2)
        names.append(layer)
        y += 0.8
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(1, color="black", lw=0.8, ls=":")
    axis.set_yticks(places, names if named else [""] * len(names), fontsize=9)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


def _short(ratio):
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def more_a_step(found):
    """{backend: what augmentation adds to a training step, a share of its processor time}."""
    rows = {name: found[key]["rows"] for key, name in BACKENDS.items() if key in found}
    steps = {
        name: [row for row in some if row.get("where", "in the step") == "in the step"] for name, some in rows.items()
    }
    return {name: statistics.median(row["processor"] for row in some) - 1 for name, some in steps.items() if some}


def images_per_second(results):
    """(size, {backend: (ours, Keras')}) for the chain that both have, in the mode in which each is faster."""
    size, found = None, {}
    for key, name in BACKENDS.items():
        rows = results["tf_data"][key]["rows"] if key in results["tf_data"] else []
        layer = CHAIN if any(row["layer"] == CHAIN for row in rows) else rows and rows[-1]["layer"]
        rows = [row for row in rows if row["layer"] == layer]
        size = rows[-1]["size"] if rows else size
        rates = [
            max([row["rate"] for row in rows if row["who"] == who and row["size"] == size], default=0)
            for who in ("keras_reg", "Keras")
        ]
        found |= {name: tuple(rates)} if rows else {}
    return size, found


def peaks(results, names=(*TARGETED, CHAIN)):
    """{backend: (ours, Keras')}, in batches, of the call of these layers that takes most."""
    found = {}
    for key, name in BACKENDS.items():
        rows = results["memory"].get(key, {"rows": []})["rows"]
        rows = [row for row in rows if row["layer"] in names]
        most = [max([row["batches"] for row in rows if row["who"] == who], default=0) for who in ("keras_reg", "Keras")]
        found |= {name: tuple(most)} if rows else {}
    return found


def draw_users(results, path):
    """What users pay: a step, a pipeline, memory."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    small, large = (more_a_step(results.get(key, {})) for key in ("step", "training"))
    steps = {name: (100 * small.get(name, 0), 100 * large.get(name, 0)) for name in large | small}
    draw_pairs(axes[0], steps, "processor time added to a training step, %", ("small network", "ResNet-18"), "{:+.1f}")
    size, rates = images_per_second(results)
    draw_pairs(axes[1], rates, f"images per second and core in tf.data, {size}")
    draw_pairs(axes[2], peaks(results), "peak memory of a call, in batches", form="{:.1f}")
    save(figure, path, results, dpi=75, colors=64)


def draw_pairs(axis, pairs, title, names=("keras_reg", "Keras"), form="{:.0f}"):
    for i, (name, colour) in enumerate(zip(names, (COLOURS["keras_reg"], COLOURS["Keras"]), strict=True)):
        values = [pair[i] for pair in pairs.values()]
        bars = axis.bar([j + 0.4 * i for j in range(len(pairs))], values, width=0.36, color=colour, label=name)
        axis.bar_label(bars, [form.format(value) for value in values], fontsize=8)
    axis.axhline(0, color="black", lw=0.8)
    axis.set_xticks([j + 0.2 for j in range(len(pairs))], list(pairs))
    axis.set_title(title, fontsize=10)
    axis.margins(y=0.25)
    axis.legend(frameon=False, ncol=2, fontsize=8, loc="upper center")
    axis.spines[["top", "right"]].set_visible(False)


def draw_scale(results, path):
    backends = [backend for backend in BACKENDS if backend in results]
    names = {
        "images": "images of 32x32 a batch",
        "pixels": "pixels of each of 16 images",
        "classes": "classes, 128 labels",
    }
    figure, axes = plt.subplots(
        len(backends), 3, figsize=(15, 3.8 * len(backends)), squeeze=False, sharex="col", layout="constrained"
    )
    for i, backend in enumerate(backends):
        for j, (series, label) in enumerate(names.items()):
            axis = axes[i, j]
            for row in results[backend]["rows"]:
                if row["series"] == series:
                    style = {"color": "black", "ls": ":"} if row["row"] == "copy" else {"marker": "o", "ms": 3}
                    axis.loglog(*zip(*sorted(row["points"]), strict=True), label=row["row"], **style)
            axis.set_title(BACKENDS[backend], fontsize=10)
            axis.legend(frameon=False, fontsize=8)
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            axis.spines[["top", "right"]].set_visible(False)
            if i == len(backends) - 1:
                axis.set_xlabel(label)
        axes[i, 0].set_ylabel("milliseconds")
    save(figure, path, results, dpi=75, colors=64)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=pathlib.Path, help="the file that the benchmarks wrote")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("docs/figures"), help="folder for the pictures"
    )
    given = parser.parse_args(argv)
    results = json.loads(given.results.read_text())
    given.out.mkdir(parents=True, exist_ok=True)
    for benchmark, name, draw in (("layers", "performance", draw_layers), ("scale", "scale", draw_scale)):
        if benchmark in results:
            draw(results[benchmark], given.out / f"{name}.png")
            print(f"Drawn: {given.out / name}.png")
    if {"training", "tf_data", "memory"} <= set(results):
        draw_users(results, given.out / "users.png")
        print(f"Drawn: {given.out / 'users'}.png")


if __name__ == "__main__":
    main()
