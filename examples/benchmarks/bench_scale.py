"""How the cost grows with batch size, image size and number of classes, compiled, on one backend.

    KERAS_BACKEND=jax python examples/benchmarks/bench_scale.py [--quick] [--json FILE]

All sizes of a series take turns. The exponent is the slope of log time over log size (images, pixels, classes) in the
upper half of the series: 1 is linear. Beside it the exponent of NumPy's copy of the same arrays, which grows a little
faster than linearly where the arrays leave the caches.
"""

import math

import keras
import numpy as np
from bench_layers import batch
from bench_losses import step
from benchmarking import BACKEND, by_turns, parse, parser, save, verdict
from contenders import own_layer
from modes import Contender

from keras_reg import losses

MODE = {"tensorflow": "xla", "jax": "jit", "torch": "eager"}[BACKEND]
ROWS = ("RandomErasing, constant", "MixUp", "CutMix", "Pipeline of erasing and choice")
BATCHES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
SIDES = (16, 32, 64, 128, 256, 512)
CLASSES = (10, 100, 1000, 10_000, 100_000)
LOSS = "LabelSmoothingCrossentropy, class ids"
TOLERANCE = 0.1


def layer_call(name, images, labels):
    layer = own_layer(name)
    contender = Contender("keras_reg", lambda x, y: layer((x, y)), (layer,))
    return contender.call(MODE, (keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)))


def loss_call(ids, classes):
    logits = keras.ops.convert_to_tensor(np.random.default_rng(0).standard_normal((len(ids), classes), "float32"))
    inputs = keras.ops.convert_to_tensor(ids), logits.requires_grad_() if BACKEND == "torch" else logits
    run = step(losses.LabelSmoothingCrossentropy(0.1, from_logits=True))
    return lambda: run(*inputs)


def series(name, batches, sides, classes, layers=ROWS):
    """{(row, size): function} of one of the three series, and what it copies."""
    functions = {}
    if name == "classes":
        for count in classes:
            images, _, ids = batch((128, 8, 8, 3), "float32")
            labels = np.zeros((128, count), "float32")
            labels[np.arange(128), ids % count] = 1
            functions["Labels mixed, one-hot", count] = layer_call("Choice of MixUp and CutMix", images, labels)
            functions[LOSS, count] = loss_call(ids % count, count)
            functions["copy", count] = labels.copy
        return functions
    shapes = {b: (b, 32, 32, 3) for b in batches} if name == "images" else {s * s: (16, s, s, 3) for s in sides}
    for size, shape in shapes.items():
        images, labels, _ = batch(shape, "float32")
        functions |= {(row, size): layer_call(row, images, labels) for row in layers}
        functions["copy", size] = images.copy
    return functions


def exponent(points):
    """The slope in the upper half of [(size, milliseconds)]."""
    points = sorted(points)
    (low, fast), (high, slow) = points[len(points) // 2 - 1], points[-1]
    return math.log(slow / fast) / math.log(high / low)


def targets(rows):
    copied = {row["series"]: row["exponent"] for row in rows if row["row"] == "copy"}
    cells = [
        (f"{row['row']}, {row['series']}", row["exponent"], max(1.0, copied[row["series"]]) + TOLERANCE)
        for row in rows
        if row["row"] != "copy"
    ]
    return [verdict("linear or better, or as the copy grows (0.1 for noise)", cells)]


def main(argv=None, batches=BATCHES, sides=SIDES, classes=CLASSES, layers=ROWS):
    given = parse(parser(__doc__), argv)
    if given.quick:
        batches, sides, classes = batches[:6:2], sides[1:4], classes[:4]
    rows = []
    for name in ("images", "pixels", "classes"):
        found = by_turns(series(name, batches, sides, classes, layers), *((0.01, 3) if given.quick else (0.3, 7)))
        print(f"\n{BACKEND}, {MODE}: milliseconds over the number of {name}")
        for row in dict.fromkeys(row for row, _ in found):
            points = [(size, ms) for (other, size), ms in found.items() if other == row]
            rows.append({"series": name, "row": row, "points": points, "exponent": exponent(points)})
            cells = "  ".join(f"{size}: {ms:.2f}" for size, ms in points)
            print(f"  {row:40}exponent {rows[-1]['exponent']:5.2f}   {cells}")
    save(given.json, "scale", rows, given.quick, targets(rows))
    return rows


if __name__ == "__main__":
    main()
