"""Milliseconds a batch of each augmentation layer beside Keras' own, on the backend of KERAS_BACKEND.

    KERAS_BACKEND=jax python examples/benchmarks/bench_layers.py [--quick] [--json FILE]

The layers take turns in one process; each number is the median over the turns, after warm-up. The limit is NumPy's copy
of the batch into a fresh array. "x copy" is ours over that copy, "x faster" is Keras' over ours.
"""

import argparse
import json
import pathlib
import statistics
import time

import keras
import numpy as np

from keras_reg import layers

BACKEND = keras.backend.backend()
SIZES = {"256x32x32x3": (256, 32, 32, 3), "64x224x224x3": (64, 224, 224, 3)}
CLASSES = 10


def rows():
    """(name, ours, Keras' own or None). Keras' RandomErasing has no aspect and erases half of what it is told to."""
    ours, theirs = layers, keras.layers
    choice = layers.RandomChoice([layers.MixUp(), layers.CutMix()], mode="sample")

    def their(name, **kwargs):
        return getattr(theirs, name)(**kwargs) if hasattr(theirs, name) else None

    noise = {"factor": 1.0, "scale": (0.02, 0.33), "value_range": (0, 1)}
    return [
        ("MixUp", ours.MixUp(), their("MixUp", alpha=0.2)),
        ("CutMix", ours.CutMix(), their("CutMix", factor=1.0)),
        ("RandomErasing constant", ours.RandomErasing(1.0), their("RandomErasing", fill_value=0.0, **noise)),
        (
            "RandomErasing pixel_noise",
            ours.RandomErasing(1.0, fill_mode="pixel_noise"),
            their("RandomErasing", **noise),
        ),
        ("RandomErasing channel_noise", ours.RandomErasing(1.0, fill_mode="channel_noise"), None),
        ("RandomChoice of mixers", choice, None),
        ("Pipeline erasing + choice", ours.Pipeline([ours.RandomErasing(1.0), choice]), None),
        ("RandomPadCrop", ours.RandomPadCrop(4), None),
        ("RandomResizedCrop", ours.RandomResizedCrop(28, scale=(0.5, 1.0)), None),
        ("PCAColorJitter", ours.PCAColorJitter(), None),
        ("LabelNoise", ours.LabelNoise(0.1), None),
        ("RandomApply of erasing", ours.RandomApply(ours.RandomErasing(1.0), 0.5), None),
    ]


def tensors(x, y):
    x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    return x, y


def calls(layer, ours, x, y):
    """{mode: function without arguments that runs the layer once and waits for the result}."""

    def run(x, y):
        return layer((x, y)) if ours else layer({"images": x, "labels": y}, training=True)

    if BACKEND == "jax":
        return {"jit": jax_call(layer, run, x, y)}
    if BACKEND == "torch":
        return {"eager": lambda: run(x, y)}
    import tensorflow as tf

    def wait(function):
        return lambda: [tensor.numpy().ravel()[:1] for tensor in tf.nest.flatten(function(x, y))[-1:]]

    return {"graph": wait(tf.function(run)), "xla": wait(tf.function(run, jit_compile=True))}


def jax_call(layer, run, x, y):
    """The layer as a compiled step runs it: its seed state goes in and comes out."""
    import jax

    variables = layer.variables or []

    @jax.jit
    def step(state, x, y):
        with keras.StatelessScope(state_mapping=list(zip(variables, state, strict=True))) as scope:
            out = run(x, y)
        moved = [scope.get_current_value(v) for v in variables]
        return out, [old if new is None else new for old, new in zip(state, moved, strict=True)]

    state = [variable.value for variable in variables]

    def call():
        nonlocal state
        out, state = step(state, x, y)
        jax.block_until_ready(out)

    return call


def measure(functions, seconds):
    """{name: median milliseconds}; the functions take turns until the time is over."""
    times = {name: [] for name in functions}
    for function in functions.values():
        for _ in range(2):
            function()
    end = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def bench(size, seconds):
    shape = SIZES[size]
    x = np.random.default_rng(0).random(shape, "float32")
    y = np.eye(CLASSES, dtype="float32")[np.arange(shape[0]) % CLASSES]
    data = tensors(x, y)
    found = []
    print(f"\n{BACKEND}, float32 {size}" + " " * 22 + "ours ms   x copy   Keras ms   x faster", flush=True)
    for name, ours, theirs in rows():
        functions = {("copy", ""): x.copy}
        for who, layer in (("ours", ours), ("keras", theirs)):
            if layer is None:
                continue
            for mode, call in calls(layer, who == "ours", *data).items():
                try:
                    call()
                except Exception as error:
                    print(f"  {name}, {mode}: {who} fails: {type(error).__name__}")
                    continue
                functions[who, mode] = call
        result = measure(functions, seconds)
        for mode in sorted({mode for who, mode in result if who == "ours"}):
            mine, copy, other = result["ours", mode], result["copy", ""], result.get(("keras", mode))
            cells = f"{mine:9.2f} {mine / copy:8.2f}"
            cells += f" {other:10.2f} {other / mine:10.1f}" if other else " " * 10
            print(f"  {name:32} {mode:6} {cells}", flush=True)
            found.append(
                {
                    "backend": BACKEND,
                    "size": size,
                    "layer": name,
                    "mode": mode,
                    "ms": mine,
                    "copy_ms": copy,
                    "keras_ms": other,
                }
            )
    return found


def main(quick=False, path=None):
    found = []
    for size in SIZES:
        found += bench(size, 0.1 if quick else 1.0)
    if path:
        pathlib.Path(path).write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the time for each number")
    parser.add_argument("--json", help="where to write the numbers")
    given = parser.parse_args()
    main(given.quick, given.json)
