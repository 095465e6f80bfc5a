"""On a GPU, with JAX or PyTorch: layers beside the device's copy of the batch, training steps, waits for the host.

    KERAS_BACKEND=torch python examples/benchmarks/bench_gpu.py [--quick] [--json FILE]
    KERAS_BACKEND=jax python examples/benchmarks/bench_gpu.py --parts layers --rows RandomAffine RandAugment --modes jit

The limit is what the batch takes to be read and written once at the bandwidth of the device's own copy. Calls are
queued ten at a time, so that what counts is what the device does. Mixing and erasing are measured in every dtype;
flips, warps, filters and policies in float32, beside Keras' own where it has any. Each table is saved when it is
complete. Without a GPU it runs on the processor with small sizes (--quick), which shows that it works and nothing else.
"""

import contextlib
import functools
import warnings

import bench_layers
import bench_training
import keras
import numpy as np
from benchmarking import BACKEND, parse, parser, save, verdict
from geometry import cells_of, geometry_targets
from modes import MODES
from rows import CHAIN, PIXELS, TARGETED, names

SIZES = ((1024, 32, 32, 3), (256, 224, 224, 3))
QUICK = ((32, 32, 32, 3), (2, 224, 224, 3))
TIMES = 10
PARTS = ("waits", "layers", "training")
COMPILED_BY_TORCH = (*TARGETED, CHAIN, "RandomAffine")  # most of a minute for each


def has_gpu():
    if BACKEND == "jax":
        import jax

        return jax.default_backend() != "cpu"
    if BACKEND == "torch":
        import torch

        return torch.cuda.is_available()
    return False


def device():
    """The name of the device."""
    if not has_gpu():
        return "processor"
    if BACKEND == "jax":
        import jax

        return jax.devices()[0].device_kind
    import torch

    return torch.cuda.get_device_name()


def device_copies(array):
    """The device's copy of the batch, ten times; every dtype is a copy of its bytes."""
    batch = keras.ops.convert_to_tensor(array.view("uint8"))
    if BACKEND == "jax":
        import jax

        copy = jax.jit(lambda x: x.copy())
        return {"fresh copy": lambda: jax.block_until_ready([copy(batch) for _ in range(TIMES)])}
    import torch

    def run():
        for _ in range(TIMES):
            batch.clone()
        if batch.is_cuda:
            torch.cuda.synchronize()

    return {"fresh copy": run}


def layer_tables(sizes, dtypes, modes, seconds, rounds, rows=None, without=(), keep=lambda found: None):
    """Measures each size in each dtype. `keep` gets everything that is found after each table."""
    found = []
    for shape in sizes:
        for dtype in dtypes:
            arrays = bench_layers.batch(shape, dtype)
            moved = 2 * arrays[0].size * {"float32": 4, "bfloat16": 2, "uint8": 1}[dtype]
            print(f"\n{BACKEND}, {dtype} {'x'.join(map(str, shape))}: milliseconds, over the copy, over one pass")
            for name in rows or rows_for(dtype):
                here = [mode for mode in modes if mode != "compile" or name in COMPILED_BY_TORCH]
                times = bench_layers.measure(name, arrays, dtype, here, seconds, rounds, device_copies, TIMES, without)
                times["fresh copy", ""] /= TIMES
                made = list(bench_layers.rows_of(name, times, shape, dtype))
                bench_layers.show(name, made)
                found += made
            print(f"  the copy moves {moved / times['fresh copy', ''] / 1e6:.0f} GB/s, read and written")
            keep(found)
    return found


def rows_for(dtype):
    return (*names(targeted=True, dtype=dtype), *(PIXELS if dtype == "float32" else ()))


class OnDevice(keras.utils.PyDataset):
    """The same batch in each step. It stays on the device, so that the step does not wait for a transfer."""

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = tuple(map(keras.ops.convert_to_tensor, batch)), steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batch


def training_step(quick, rounds, forms):
    """What `RegularizedModel` adds to a step of ResNet-50 at 224 x 224, mixed_bfloat16."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        side, size, steps = (32, 4, 2) if quick else (224, 128, 10)
        images = np.random.default_rng(0).random((size, side, side, 3), "float32")

        def batches(images, labels, batch_size):
            return {"x": OnDevice((images, labels), steps), "shuffle": False}

        def network():
            return keras.applications.ResNet50(
                weights=None, input_shape=(side, side, 3), classes=1000, classifier_activation=None
            )

        print(f"\nResNet-50 at {side}x{side}, mixed_bfloat16, batches of {size} on {BACKEND}: what augmentation adds")
        print(f"  {'labels':12}{'plain ms':>12}{'clock':>12}{'processor':>12}{'alone':>10}")
        times = bench_training.measure(network, images, size, rounds, 1000, forms, batches)
        return bench_training.overheads(times, steps, bench_training.alone((size, side, side, 3), classes=1000))
    finally:
        keras.config.set_dtype_policy("float32")


# Waits for the host -------------------------------------------------------------------------------------------------


def waits(make=lambda: bench_training.resnet18(8)):
    """{who: how often a training step waits for the device}, or under JAX whether it moves anything to or from it."""
    x = np.random.default_rng(0).random((128, 32, 32, 3), "float32")
    y = np.arange(128) % bench_training.CLASSES
    found = {}
    for (form, who), model in bench_training.contenders(make).items():
        if form == "integer":
            model.fit(x, y, batch_size=128, verbose=0)
            data = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
            found[who] = (_torch_waits if BACKEND == "torch" else _jax_waits)(model, data)
    return found


def _torch_waits(model, data):
    import torch

    model.train_step(data)
    with _sync_debug_mode(torch), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model.train_step(data)
    return sum("synchroniz" in str(warning.message) for warning in seen)


@contextlib.contextmanager
def _sync_debug_mode(torch):
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")


def _jax_waits(model, data):
    import jax

    model.optimizer.build(model.trainable_variables)
    groups = (
        model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables
    )  # fmt: skip
    state = jax.device_put(tuple([variable.value for variable in group] for group in groups))
    step = jax.jit(model.train_step)
    _, state = step(state, data)
    try:
        with jax.transfer_guard("disallow"):
            jax.block_until_ready(step(state, data))
    except Exception as error:
        print(f"  {error}")
        return 1
    return 0


def main(argv=None):
    made = parser(__doc__)
    made.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="default: all; each is saved at once")
    made.add_argument("--seconds", type=float, default=0.3, help="for each number of the layers (default 0.3)")
    made.add_argument("--dtypes", nargs="+", default=bench_layers.DTYPES, choices=bench_layers.DTYPES)
    made.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    made.add_argument("--rows", nargs="+", metavar="ROW", help="of the layers: all unless given; names as in rows.py")
    made.add_argument("--without", nargs="+", default=(), metavar="WHO", help="such as torchvision, which is slow")
    forms = bench_training.FORMS
    made.add_argument("--labels", nargs="+", default=forms, choices=forms, help="of the training steps (default: both)")
    given = parse(made, argv)
    if BACKEND == "tensorflow":
        print("bench_gpu.py measures JAX and PyTorch")
        return None
    if not has_gpu():
        print("No GPU: the numbers below are the processor's, and mean nothing for one")
    quick = given.quick or not has_gpu()
    found = {"device": device()}

    def keep(part, measured):
        found[part] = measured
        save(given.json, "gpu", [found], quick, targets(found))

    def tables():
        sizes, dtypes, seconds, rounds = (
            (QUICK, ("float32",), 0.01, 3) if quick else (SIZES, given.dtypes, given.seconds, 7)
        )
        keeps = functools.partial(keep, "layers")
        return layer_tables(sizes, dtypes, given.modes, seconds, rounds, given.rows, given.without, keeps)

    def steps():
        return training_step(quick, 3 if quick else 7, given.labels)

    measured = {"waits": waits, "layers": tables, "training": steps}
    for part in given.parts:
        keep(part, measured[part]())
    return found


def targets(found):
    print(f"\nTargets on a GPU, {BACKEND}")
    layers = found.get("layers", ())
    near = [row for row in layers if row["who"] == "keras_reg" and row["layer"] in (*TARGETED, CHAIN)]
    cells = [
        (f"{row['size']}, {row['dtype']}, {row['mode']}, {row['layer']}", row["ms"] / row["copy"], 1.2) for row in near
    ]
    steps = [(f"{row['labels']} labels", row["ratio"] - 1, 0.02) for row in found.get("training", ())]
    waiting = [("waits", found["waits"]["augmented"], found["waits"]["plain"] + 0.5)] if "waits" in found else []
    return [
        verdict("at most 1.2 times the device's copy", cells),
        verdict("a step of ResNet-50 at most 2 % over the plain one", steps),
        verdict("a step waits for the host no more often than the plain one", waiting),
        *geometry_targets(cells_of(layers)),
    ]


if __name__ == "__main__":
    main()
