"""Writes the tables of docs/performance.md and its log from what the benchmarks found, between their markers.

python examples/benchmarks/report.py [docs/results/performance.json] [--pages docs/performance.md ...]
"""

import argparse
import functools
import json
import pathlib
import re
import statistics

from draw import BACKENDS, best, images_per_second, more_a_step, peaks
from rows import CHAIN, PIXELS, POLICIES, TARGETED

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "performance.md", ROOT / "docs" / "performance_log.md"]


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def layers(found, names=(*TARGETED, CHAIN)):
    """One table for each size: milliseconds, over the fresh copy, and what the others take."""
    sizes = list(dict.fromkeys(row["size"] for entry in found.values() for row in entry["rows"]))
    parts = []
    for size in sizes:
        chosen = {backend: best(found[backend]["rows"], backend, size) for backend in BACKENDS if backend in found}
        rows = [[row, *(_cell(cells.get(row, {})) for cells in chosen.values())] for row in names]
        rows = [row for row in rows if any(row[1:])]
        if not rows:
            continue
        rows.append(["*NumPy's fresh copy*", *(f"{_copy(cells):.1f}" if cells else "" for cells in chosen.values())])
        parts.append(f"**{size}**, float32\n\n" + table([""] + [BACKENDS[backend] for backend in chosen], rows))
    return "\n\n".join(parts)


def _cell(contenders, time="{:.1f}".format, ratio="{:.1f}".format):
    if "keras_reg" not in contenders:
        return ""
    mine = contenders["keras_reg"]
    others = ", ".join(f"{who} {time(row['ms'])}" for who, row in contenders.items() if who != "keras_reg")
    return f"**{time(mine['ms'])}** ({ratio(mine['ms'] / mine['copy'])}){'; ' + others if others else ''}"


def _copy(cells):
    return statistics.median(row["copy"] for cell in cells.values() for row in cell.values())


def speed_up(found, pixels=False):
    """How much faster than Keras' own, over all cells: of the layers that erase and mix, or of those of PIXELS."""
    ratios = {}
    for backend, entry in found.items():
        cells = {}
        for row in [row for row in entry["rows"] if (row["layer"] in PIXELS) == pixels]:
            cells.setdefault((row["size"], row["dtype"], row["mode"], row["layer"]), {})[row["who"]] = row["ms"]
        ratios[backend] = [
            cell["Keras"] / cell["keras_reg"] for cell in cells.values() if {"Keras", "keras_reg"} <= set(cell)
        ]
    every = [ratio for values in ratios.values() for ratio in values]
    if not every:
        return ""
    rows = [[BACKENDS[backend], *_spread(ratios[backend])] for backend in BACKENDS if ratios.get(backend)]
    return table(
        ["Keras' time over ours", "cells", "median", "geometric mean", "least", "most"],
        [*rows, ["all", *_spread(every)]],
    )


def _spread(values):
    return [len(values), *(f"{f(values):.1f}" for f in (statistics.median, statistics.geometric_mean, min, max))]


def losses(found):
    rows = []
    for backend in [backend for backend in BACKENDS if backend in found]:
        for row in found[backend]["rows"]:
            size = "x".join(map(str, row["shape"]))
            memory = "" if row["peak_in_logits"] is None else f"{row['peak_in_logits']:.1f}"
            rows.append([BACKENDS[backend], size, row["loss"], f"{row['ms']:.0f}", f"{row['to_plain']:.2f}", memory])
    rows = [[f"{backend}, {size}", *others] for backend, size, *others in rows]
    return table(["", "loss", "ms", "over plain", "peak memory, in logits"], rows)


def step(found):
    """Three convolutions: a training step and an input pipeline over the plain ones."""
    rows = [
        [
            f"{BACKENDS[backend]}, {row['where']}",
            f"{row['step_ms']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['processor']:.2f}",
        ]
        for backend in BACKENDS
        if backend in found
        for row in found[backend]["rows"]
    ]
    return table(["", "plain step, ms", "over plain, clock", "over plain, processor"], rows)


def training(found):
    rows = [
        [f"{BACKENDS[backend]}, {row['labels']} labels", f"{row['step_ms']:.0f}"]
        + [
            f"{100 * value:+.1f} %".replace("-0.0", "+0.0")
            for value in (row["ratio"] - 1, row["processor"] - 1, row["alone"])
        ]
        for backend in BACKENDS
        if backend in found
        for row in found[backend]["rows"]
    ]
    return table(["", "plain step, ms", "more, clock", "more, processor", "augmentation alone"], rows)


def parts(found):
    """A training step with one part of `RegularizedModel` over the plain step: by the clock, and by processor time."""
    backends = [backend for backend in BACKENDS if backend in found]
    cells = {(row["part"], backend): row for backend in backends for row in found[backend]["rows"]}
    rows = [
        [f"`{part}`" if part[0].isupper() else part]
        + [f"{cells[part, b]['ratio']:.2f} ({cells[part, b]['processor']:.2f})" for b in backends]
        for part in dict.fromkeys(part for part, _ in cells)
    ]
    plain = ["*plain step, ms*", *(f"{found[backend]['rows'][0]['step_ms']:.0f}" for backend in backends)]
    return table(["", *(BACKENDS[backend] for backend in backends)], [*rows, plain])


def memory(found):
    rows = []
    backends = [b for b in BACKENDS if b in found and any(row["batches"] > 0.5 for row in found[b]["rows"])]
    measured = {row["layer"] for backend in backends for row in found[backend]["rows"]}
    for layer in [layer for layer in (*TARGETED, CHAIN, *PIXELS) if layer in measured]:
        cells = []
        for backend in backends:
            here = [
                row for row in found[backend]["rows"] if row["layer"] == layer and row["who"] in ("keras_reg", "Keras")
            ]
            named = {"keras_reg": "ours", "Keras": "Keras"}
            cells.append(", ".join(f"{named[row['who']]} {row['mode']} {row['batches']:.1f}" for row in here))
        rows.append([layer, *cells])
    return table(["", *(BACKENDS[backend] for backend in backends)], rows)


def costs(found):
    """Processor milliseconds a batch of each layer, the cheapest first, one table for each size."""
    backends = [backend for backend in BACKENDS if backend in found]
    cells = {(row["size"], row["layer"], b): row["ms"] for b in backends for row in found[b]["rows"]}
    parts = []
    for size in dict.fromkeys(size for size, _, _ in cells):
        names = dict.fromkeys(layer for at, layer, _ in cells if at == size)
        cost = {name: [cells[size, name, b] for b in backends] for name in names}
        order = sorted(cost, key=lambda name: statistics.geometric_mean(max(ms, 1e-3) for ms in cost[name]))
        rows = [[name, *(f"{ms:.1f}" if ms < 100 else f"{ms:.0f}" for ms in cost[name])] for name in order]
        parts.append(f"**{size}**\n\n" + table(["", *(BACKENDS[b] for b in backends)], rows))
    return "\n\n".join(parts)


def gpu(found):
    """Milliseconds a batch of each layer on a GPU, one table for each size, and what augmentation adds to a step."""
    measured = {backend: found[backend]["rows"][0] for backend in BACKENDS if backend in found}
    cells = {}
    for backend, part in measured.items():
        for row in part["layers"]:
            cells.setdefault((row["size"], row["layer"]), {}).setdefault(backend, {})[row["who"]] = row
    parts = []
    for size in dict.fromkeys(size for size, _ in cells):
        here = {layer: row for (at, layer), row in cells.items() if at == size}
        used = [backend for backend in measured if any(backend in row for row in here.values())]
        rows = [
            [layer, *(_cell(row.get(backend, {}), _two_digits, _short) for backend in used)]
            for layer, row in here.items()
        ]
        parts.append(f"**{size}**, float32\n\n" + table(["", *(BACKENDS[backend] for backend in used)], rows))
    waits = [
        [BACKENDS[backend], *(part["waits"][who] for who in ("plain", "augmented"))]
        for backend, part in measured.items()
    ]
    parts.append(table(["waits for the device", "plain step", "augmented step"], waits))
    devices = " and ".join(dict.fromkeys(part["device"] for part in measured.values()))
    return "\n\n".join([f"{devices}; {machine({'gpu': found})}", *parts])


def _two_digits(milliseconds):
    return f"{milliseconds:.2g}" if milliseconds < 99.5 else f"{milliseconds:.0f}"


def _short(ratio):
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def tf_data(found):
    parts = []
    for backend in [backend for backend in BACKENDS if backend in found]:
        rows = found[backend]["rows"]
        columns = list(dict.fromkeys((row["who"], row["mode"]) for row in rows))
        rates = {(row["size"], row["layer"], row["who"], row["mode"]): f"{row['rate']:.0f}" for row in rows}
        lines = [
            [f"{layer}, {size}", *(rates.get((size, layer, *column), "") for column in columns)]
            for size, layer in dict.fromkeys((row["size"], row["layer"]) for row in rows)
        ]
        parts.append(table([f"Keras on {BACKENDS[backend]}", *(", ".join(column) for column in columns)], lines))
    return "\n\n".join(parts)


def summary(results):
    """What users pay: in a training step, in an input pipeline, and in memory."""
    lines = []
    steps = []
    for key, network in (("step", "three convolutions"), ("training", "a ResNet-18")):
        found = more_a_step(results.get(key, {}))
        listed = ", ".join(f"{100 * value:+.1f} % on {name}".replace("-0.0", "+0.0") for name, value in found.items())
        steps += [f"{listed}, for {network}"] if found else []
    if steps:
        lines.append(f"- **A training step** with augmentation changes its processor time by {'; '.join(steps)}.")
    if "tf_data" in results:
        size, rates = images_per_second(results)
        listed = "; ".join(f"{ours:.0f} (Keras {keras:.0f}) under {name}" for name, (ours, keras) in rates.items())
        lines.append(
            f"- **An input pipeline** of erasing, MixUp and CutMix, {size}, images per second and core: {listed}."
        )
    if "memory" in results:
        kinds = {"of erasing, MixUp or CutMix": peaks(results), "of RandAugment": peaks(results, POLICIES[:1])}
        listed = "; ".join(f"{what}, {_peaks(found)}" for what, found in kinds.items() if found)
        lines.append(f"- **Memory** at the peak of a call, in batches, the result included: {listed}.")
    return "\n".join(lines)


def _peaks(found):
    return ", ".join(f"{ours:.1f} (Keras {keras:.1f}) on {name}" for name, (ours, keras) in found.items())


def targets(results):
    """How many cells meet each target."""
    met = {}
    for found in results.values():
        for backend, entry in found.items():
            for one in entry.get("targets", []):
                met.setdefault(one["target"], {})[backend] = f"{one['cells'] - len(one['missed'])} of {one['cells']}"
    backends = [backend for backend in BACKENDS if any(backend in cells for cells in met.values())]
    lines = [[name, *(cells.get(backend, "") for backend in backends)] for name, cells in met.items()]
    return table(["met by", *(BACKENDS[backend] for backend in backends)], lines)


def machine(results):
    """A sentence on where this was measured."""
    entries = [entry for found in results.values() for entry in found.values()]
    first = entries[0]["machine"]
    names = ("keras", "tensorflow", "jax", "torch", "numpy", "python")
    versions = {name: e["machine"][name] for e in entries for name in names if name in e["machine"]}
    quick = " **Quick mode: not to be quoted.**" if any(entry["quick"] for entry in entries) else ""
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{first['cpu']}, {first['cores']} cores; {listed}; {max(entry['date'] for entry in entries)}.{quick}"


PARTS = {
    "costs": costs,
    "layers": layers,
    "pixels": functools.partial(layers, names=PIXELS),
    "losses": losses,
    "step": step,
    "training": training,
    "parts": parts,
    "parts_memory_kept": parts,
    "memory": memory,
    "tf_data": tf_data,
    "gpu": gpu,
}


PICTURES = {
    "users.png": "What augmentation costs in a training step, in tf.data and in memory",
    "performance.png": "Time of a batch over the time of a copy of it, for each layer, backend and package",
    "scale.png": "Milliseconds over batch size, image size and number of classes",
}


def fill(page, results):
    """The page with the text between `<!-- name -->` and `<!-- end -->` made anew."""
    found = results | ({"pixels": results["layers"]} if "layers" in results else {})
    made = {name: make(found[name]) for name, make in PARTS.items() if name in found}
    results = {name: entries for name, entries in results.items() if name != "gpu"}  # which has a machine of its own
    made |= {"machine": machine(results), "targets": targets(results), "summary": summary(results)} | (
        {"speed_up": speed_up(results["layers"]), "speed_up_pixels": speed_up(results["layers"], pixels=True)}
        if "layers" in results
        else {}
    )
    drawn = [name for name in PICTURES if (ROOT / "docs/figures" / name).exists()]
    made |= {name: f"![{PICTURES[name]}](figures/{name})" for name in drawn}
    for name, text in made.items():
        pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = pattern.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
    return page


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=pathlib.Path, default=ROOT / "docs/results/performance.json")
    parser.add_argument("--pages", nargs="+", type=pathlib.Path, default=PAGES)
    given = parser.parse_args(argv)
    results = json.loads(given.results.read_text())
    for page in given.pages:
        page.write_text(fill(page.read_text(encoding="utf-8"), results), encoding="utf-8")
        print(f"Written: {page}")


if __name__ == "__main__":
    main()
