"""Programs, memory and threads over thousands of calls and training steps with 15 batch sizes: do they stay bounded?

    KERAS_BACKEND=jax python examples/benchmarks/bench_bounded.py [--quick] [--json FILE]

Every batch size is met twice before the count begins, so that what is compiled for a size is there. From then on a
bounded process compiles nothing, and holds as many threads and about as many bytes at the end as at the start.
Programs are what JAX compiles, and what TensorFlow traces of the layer and of the training step; PyTorch has none.
The same network without augmentation, trained by plain Keras, shows how many of them are Keras' own.
"""

import gc
import os
import pathlib
import threading

import keras
import numpy as np
from benchmarking import BACKEND, parse, parser, save, verdict

from keras_reg import layers, losses, training

SIZES = tuple(range(2, 17))
SIDE = 128  # so that each batch is worth a program of its own
MOST_MEMORY = 64 * 2**20  # that the allocators may keep, whatever the number of calls


class Programs:
    """Counts what has been compiled since it was made."""

    def __init__(self):
        self.compiled, self.functions, self.models = 0, [], []
        if BACKEND == "jax":
            import jax

            jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event, duration, **_):
        self.compiled += event.endswith("backend_compile_duration")

    def count(self):
        """What JAX has compiled; how often TensorFlow has traced the functions, and the steps of the models."""
        if BACKEND != "tensorflow":
            return self.compiled
        traced = sum(function.experimental_get_tracing_count() for function in self.functions)
        return traced + sum(model.traces for model in self.models)


class CountsTraces:
    """Counts how often Python goes through the step of a model: for TensorFlow, once for each program."""

    traces = 0

    def train_step(self, *args):
        self.traces += 1
        return super().train_step(*args)


class TracedRegularizedModel(CountsTraces, training.RegularizedModel):
    pass


class TracedKerasModel(CountsTraces, keras.Model):
    pass


def memory():
    """Bytes of the process that are in memory, or 0 where the system does not say."""
    gc.collect()
    status = pathlib.Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


def threads():
    tasks = pathlib.Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


def batches(sizes, side):
    """{size: (images, class ids)}."""
    rng = np.random.default_rng(0)
    return {n: (rng.random((n, side, side, 3), "float32"), np.arange(n, dtype="int32") % 4) for n in sizes}


def small_model(side, plain=False):
    """Everything of this package in one model, or the same network with layers and loss of Keras."""
    images = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(4, 3, strides=4)(images)
    x = (keras.layers.BatchNormalization() if plain else layers.NoisyBatchNormalization(0.1))(x)
    x = (keras.layers.SpatialDropout2D(0.1) if plain else layers.DropBlock2D(0.1, 3))(x)
    logits = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    if plain:
        model, loss = TracedKerasModel(images, logits), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        mix = layers.RandomChoice([layers.MixUp(0.2), layers.CutMix()], mode="sample")
        augmentation = layers.Pipeline([layers.RandomErasing(0.5), mix], seed=0)
        model = TracedRegularizedModel(keras.Model(images, logits), augmentation)
        loss = losses.LabelSmoothingCrossentropy(0.1, from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


def figures(programs):
    return {"programs": programs.count(), "threads": threads(), "bytes": memory()}


def run(call, number, data, programs):
    """What there was after two rounds over the sizes, and after `number` calls more."""
    sizes = list(data)
    for n in sizes * 2:
        call(*data[n])
    before = figures(programs)
    for i in range(number):
        call(*data[sizes[i % len(sizes)]])
    return before, figures(programs)


def of_calls(number, sizes=SIZES):
    """An eager layer, which compiles what is worth it."""
    programs = Programs()
    layer = layers.Pipeline([layers.RandomErasing(0.5), layers.MixUp(0.2, num_classes=4)], seed=0)
    call = layer
    if BACKEND == "tensorflow":
        import tensorflow as tf

        call = tf.function(lambda x, y: layer(x, y), reduce_retracing=True)
        programs.functions.append(call)
    return run(call, number, batches(sizes, SIDE), programs)


def of_steps(number, sizes=SIZES, plain=False):
    """`train_on_batch` of a `RegularizedModel`, or of plain Keras."""
    programs, model = Programs(), small_model(SIDE // 4, plain)
    programs.models.append(model)
    return run(model.train_on_batch, number, batches(sizes, SIDE // 4), programs)


def main(argv=None, calls=None, steps=None):
    given = parse(parser(__doc__), argv)
    calls, steps = calls or (300 if given.quick else 5000), steps or (150 if given.quick else 2000)
    sizes = SIZES[:4] if given.quick else SIZES
    print(f"\n{f'Bounded on {BACKEND}, {len(sizes)} batch sizes':52}  programs      threads         MB")
    found, more, grown = [], [], []
    for what, (before, after) in {
        f"{calls} calls": of_calls(calls, sizes),
        f"{steps} steps": of_steps(steps, sizes),
        f"{steps} steps of plain Keras": of_steps(steps, sizes, plain=True),
    }.items():
        for when, row in (("two rounds", before), (what, after)):
            print(f"  {'after ' + when:52}{row['programs']:>8}{row['threads']:>13}{row['bytes'] / 2**20:>11.0f}")
        found.append({"what": what, "before": before, "after": after})
        if "plain" not in what:
            more += [(f"{what}, {name}", after[name] / max(before[name], 1), 1) for name in ("programs", "threads")]
            grown.append((what, after["bytes"] - before["bytes"], MOST_MEMORY))
    made = [
        verdict("as many programs and threads at the end as at the start", more),
        verdict("memory stays below 64 MB more", grown),
    ]
    save(given.json, "bounded", found, given.quick, made)
    return found


if __name__ == "__main__":
    main()
