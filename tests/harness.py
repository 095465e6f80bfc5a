"""What all tests share: `from harness import BACKEND, to_numpy, ...`.

Values
    `BACKEND`: "tensorflow", "jax" or "torch", the backend of this run. `only("jax")` marks a test for some backends.
    `to_numpy(x)`: any nest of tensors as NumPy arrays. `assert_close(a, b, rtol, atol)` compares two such nests.
    `sample_photos()`: two real photographs, `digits()`: 1797 real 8x8 digits; both come with scikit-learn.

Computing
    `gradients(loss_fn, variables)`, `value_and_gradients(...)`: the backend's own automatic differentiation.
    `jit(fn, *owners, xla=False)`: `fn` as the backend compiles it.
    `map_in_tf_data(fn, batches, ...)`: `fn` mapped in a tf.data graph, whatever the backend.

Errors
    `with raises_received("rate"):` a `ValueError` that says what was expected and what came.

The package
    `public_namespaces()`, `public_objects()`: every public namespace, class and function by its full name.

Processes
    `run_in_fresh_process(code)`: runs code in a new interpreter on the same backend, returns what it printed.
    `reload_in_fresh_process(path, inputs)`: loads a `.keras` file there and returns the outputs.
"""

import contextlib
import functools
import importlib.util
import inspect
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import textwrap

import keras
import numpy as np
import pytest
from keras import tree

import keras_reg

BACKEND = keras.backend.backend()
HANGS_AFTER = 3600  # seconds: no test is slow enough for that, however busy the machine
TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent


def only(*backends, why=""):
    """Marks a test that means something on `backends` alone: `@only("jax", why="keras.distribution is JAX's")`."""
    return pytest.mark.skipif(BACKEND not in backends, reason=f"only on {', '.join(backends)}. {why}".strip())


def slow_on(*backends):
    """Marks a test that takes more than about ten seconds on `backends` alone."""
    return pytest.mark.slow if BACKEND in backends else lambda test: test


def fewer(values, quick, on=("tensorflow", "jax")):
    """`values` of a parameter that differ in what no backend does in its own way.

    On the backends `on`, which compile each of them for seconds, those that are not in `quick` count as slow.
    """
    assert all(value in values for value in quick), quick
    if BACKEND not in on:
        return list(values)
    rows = {value: value if isinstance(value, tuple) else (value,) for value in values}
    return [pytest.param(*row, marks=() if value in quick else pytest.mark.slow) for value, row in rows.items()]


def to_numpy(x):
    """`x` with every tensor in it as a NumPy array; `None`, numbers and strings stay.

    bfloat16 comes back as float32 (exactly): NumPy has no bfloat16 of its own, and most of its functions refuse it.
    """

    def leaf(value):
        if value is None or isinstance(value, (str, bytes, bool, int, float)):
            return value
        if keras.ops.is_tensor(value) and keras.backend.standardize_dtype(value.dtype) == "bfloat16":
            value = keras.ops.cast(value, "float32")
        array = value if isinstance(value, np.ndarray) else _array(value)
        return array.astype("float32") if array.dtype.name == "bfloat16" else array

    return tree.map_structure(leaf, x) if _nested(x) else leaf(x)


def _nested(x):
    return isinstance(x, (dict, list, tuple))


def _array(value):
    if hasattr(value, "value") and isinstance(value, keras.Variable):
        value = value.value
    if keras.ops.is_tensor(value):
        return np.asarray(keras.ops.convert_to_numpy(value))
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


def dtype_of(x):
    """The dtype of a tensor or array by its Keras name, "bfloat16" included."""
    return keras.backend.standardize_dtype(x.dtype)


def assert_close(actual, expected, rtol=1e-6, atol=1e-6):
    """Two nests of the same structure hold the same numbers within the stated tolerance, NaN where NaN."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    if not _nested(expected):
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
        return
    tree.assert_same_structure(actual, expected)
    for a, b in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


# Data.


@functools.cache
def _photos():
    from sklearn.datasets import load_sample_images

    return np.stack(load_sample_images().images)


def sample_photos(height=None, width=None):
    """Two photographs, (2, 427, 640, 3) uint8, or their upper left `height` x `width`. A copy every time."""
    return _photos()[:, :height, :width].copy()


@functools.cache
def _digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16).astype("float32")[..., None], data.target.astype("int32")


def digits(count=None):
    """Images (count, 8, 8, 1) float32 in [0, 1] and their labels (count,) int32. A copy every time."""
    images, labels = _digits()
    return images[:count].copy(), labels[:count].copy()


# Computing.


def value_and_gradients(loss_fn, variables):
    """The loss and its gradients with respect to `variables`, as NumPy.

    Args:
        loss_fn: Callable without arguments that returns a scalar tensor and reads `variables` (a layer's or model's
            weights, or `keras.Variable(logits)` for a gradient with respect to anything else).
        variables: List of `keras.Variable`.

    Returns:
        `(loss, [gradient, ...])`; zeros where the loss does not depend on a variable.

    On JAX what `loss_fn` assigns to variables (seed states, moving averages) is dropped, on the others it is kept.
    """
    variables = list(variables)
    loss, found = {"tensorflow": _tf_gradients, "jax": _jax_gradients, "torch": _torch_gradients}[BACKEND](
        loss_fn, variables
    )
    found = [np.zeros(v.shape, "float32") if g is None else to_numpy(g) for g, v in zip(found, variables, strict=True)]
    return to_numpy(loss), found


def gradients(loss_fn, variables):
    """The gradients of `value_and_gradients` alone."""
    return value_and_gradients(loss_fn, variables)[1]


def _tf_gradients(loss_fn, variables):
    import tensorflow as tf

    values = [v.value for v in variables]
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = loss_fn()
    found = tape.gradient(loss, values)
    return loss, [tf.convert_to_tensor(g) if g is not None else None for g in found]


def _jax_gradients(loss_fn, variables):
    import jax

    def pure(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return loss_fn()

    return jax.value_and_grad(pure)([v.value for v in variables])


def _torch_gradients(loss_fn, variables):
    import torch

    with torch.enable_grad():
        loss = loss_fn()
        values = [v.value for v in variables]
        return loss.detach(), torch.autograd.grad(loss, values, allow_unused=True)


def jit(fn, *owners, xla=False, dynamic_batch=False):
    """`fn` as the backend compiles it: `tf.function`, `jax.jit`, and on PyTorch, whose step is eager, `fn` itself.

    Args:
        fn: Function of tensors (positional); bind everything else: `jit(lambda x: layer(x, training=True), layer)`.
        *owners: The layers, models or `SeedGenerator`s whose state `fn` changes. JAX needs them: the state goes
            through the compiled function and is written back after each call.
        xla: Whether TensorFlow compiles with XLA too.
        dynamic_batch: Whether TensorFlow traces `fn` once, with an unknown first axis, for every batch size (JAX
            always compiles for each shape).
    """
    if BACKEND == "tensorflow":
        return _tf_function(fn, xla, dynamic_batch)
    return _jax_jit(fn, owners) if BACKEND == "jax" else fn


def _tf_function(fn, xla, dynamic_batch):
    import tensorflow as tf

    if not dynamic_batch:
        return tf.function(fn, jit_compile=xla)
    traced = []

    def compiled(*args):
        args = tree.map_structure(tf.convert_to_tensor, args)
        if not traced:
            specs = tree.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), args)
            traced.append(tf.function(fn, jit_compile=xla).get_concrete_function(*specs))
        return traced[0](*args)

    return compiled


def _jax_jit(fn, owners):
    import jax

    def state():
        found = [v for owner in owners for v in getattr(owner, "variables", None) or [owner.state]]
        return list({id(v): v for v in found}.values())

    @jax.jit
    def pure(values, *args):
        variables = state()
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
            outputs = fn(*args)
        after = [scope.get_current_value(v) for v in variables]
        return outputs, [v.value if a is None else a for v, a in zip(variables, after, strict=True)]

    def compiled(*args):
        outputs, values = pure([v.value for v in state()], *args)
        for variable, value in zip(state(), values, strict=True):
            variable.assign(value)
        return outputs

    return compiled


def map_in_tf_data(fn, elements, batch_size=None, drop_remainder=False, num_parallel_calls=None, **map_arguments):
    """Maps `fn` over `elements` in a tf.data graph and returns the results as a list of NumPy nests.

    Args:
        fn: A layer or function.
        elements: A nest of arrays as for `tf.data.Dataset.from_tensor_slices`.
        batch_size, drop_remainder: How to batch before the map; `None` maps single elements.
        num_parallel_calls, **map_arguments: For `Dataset.map`.
    """
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(elements)
    if batch_size is not None:
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    function = fn if not isinstance(elements, tuple) else (lambda *args: fn(args))
    dataset = dataset.map(function, num_parallel_calls=num_parallel_calls, **map_arguments)
    return list(dataset.as_numpy_iterator())


def import_torchvision():
    """`torchvision` with its `transforms.v2`, also where its compiled part does not fit the installed PyTorch.

    The wheel on PyPI is built against PyTorch with CUDA. Beside a CPU build its library does not load, and
    `import torchvision` then stops at decorators that look up operators this library would have defined.
    """
    import torch

    if "torchvision" not in sys.modules:
        folder = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent
        try:
            torch.ops.load_library(next(folder.glob("_C*.so")))
        except (OSError, StopIteration):
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _TORCHVISION.append(library)
    import torchvision.transforms.v2

    return torchvision


_TORCHVISION = []  # a torch.library.Library takes its operators with it when it goes


# Errors.


@contextlib.contextmanager
def raises_received(*mentioned):
    """Expects a `ValueError` of the house style: it ends in `Received: name=value` and names every `mentioned`."""
    with pytest.raises(ValueError, match="Received:") as caught:
        yield caught
    for name in mentioned:
        assert re.search(re.escape(name), str(caught.value)), f"{name!r} is not mentioned in: {caught.value}"


# The package.


def public_namespaces():
    """`{"keras_reg.layers": module, ...}`, the top one included."""
    found = {f"keras_reg.{name}": getattr(keras_reg, name) for name in keras_reg.__all__}
    return {"keras_reg": keras_reg, **{name: value for name, value in found.items() if inspect.ismodule(value)}}


@functools.cache
def public_objects():
    """`{"keras_reg.layers.MixUp": class, ...}`: every public class and function by the name that a user writes."""
    return {
        f"{prefix}.{name}": getattr(namespace, name)
        for prefix, namespace in public_namespaces().items()
        for name in namespace.__all__
        if not inspect.ismodule(getattr(namespace, name))
    }


# Processes.


def child_environment(**more):
    """The environment of a new process that tests what this one tests: its backend, and the same `keras_reg`.

    The tests can be imported there. The working directory cannot: the source tree that stands in it must not hide the
    installed package.
    """
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "KERAS_BACKEND": BACKEND, "PYTHONSAFEPATH": "1", "PYTHONPATH": path, **more}


def run_in_fresh_process(code, env=None, timeout=HANGS_AFTER):
    """Runs Python `code` (indented as you like) in a new interpreter and returns its standard output.

    The new process has this run's backend and may `from harness import ...`; it sees the same installed `keras_reg`.
    Each one costs the import of a framework, seconds: put several checks into one.

    Args:
        code: Source text.
        env: Extra environment variables, such as `{"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}`.
        timeout: Seconds until it counts as hung.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=child_environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise AssertionError(f"The process ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


_RELOAD = """
import pickle, sys
import keras, keras_reg
from harness import to_numpy

with open({jobs!r}, "rb") as file:
    jobs = pickle.load(file)
results = []
for path, inputs in jobs:
    model = keras.saving.load_model(path)
    results.append((to_numpy(model(inputs, training=False)), to_numpy(model.get_weights())))
with open({results!r}, "wb") as file:
    pickle.dump(results, file)
"""


def reload_all_in_fresh_process(jobs, env=None):
    """Loads many models in one new process: `[(path, inputs), ...]` to `[(outputs, weights), ...]`, all NumPy."""
    jobs = [(str(path), to_numpy(inputs)) for path, inputs in jobs]
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: os.path.join(folder, name) for name in ("jobs", "results")}
        with open(paths["jobs"], "wb") as file:
            pickle.dump(jobs, file)
        run_in_fresh_process(_RELOAD.format(**paths), env=env)
        with open(paths["results"], "rb") as file:
            return pickle.load(file)


def reload_in_fresh_process(path, inputs, env=None):
    """Loads the model at `path` in a new process that knows only `import keras_reg`; returns its inference outputs.

    `env={"KERAS_BACKEND": "jax"}` loads it into another backend.
    """
    return reload_all_in_fresh_process([(path, inputs)], env=env)[0][0]
