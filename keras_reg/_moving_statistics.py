"""Recomputes the moving statistics of batch normalization from a whole data set."""

import contextlib
import inspect

import keras
import numpy as np
from keras import ops

from keras_reg import _backend
from keras_reg._datasets import is_dataset, is_repeatable, one_pass
from keras_reg._inner_layers import inside
from keras_reg._validation import fail

BATCH = 32  # the size of the batches of arrays, as in `fit`


def refresh_statistics(model, data):
    """Sets the moving statistics of all batch normalizations to the mean and variance of their inputs over `data`.

    Each normalization uses the statistics of the batch, without the correction of batch renormalization, and all other
    layers are in inference mode. Normalizations that are frozen are left as they are. After an error, all statistics
    are as before.

    Raises:
        ValueError: If `data` has no batch.
    """
    moments = {layer: Moments(layer.axis) for layer in inside(model) if is_updated(layer)}
    before = {layer: [ops.copy(variable) for variable in statistics_of(layer)] for layer in moments}
    found = before
    options = {"training": False} if "training" in inspect.signature(model.call).parameters else {}
    try:
        with contextlib.ExitStack() as stack, _backend.no_gradients():
            for layer, counted in moments.items():
                stack.enter_context(_collecting(layer, counted))
            batches = 0
            for batches, x in enumerate(inputs_of(data), start=1):  # noqa: B007
                model(x, **options)
        if not batches:
            fail("`data` must have at least one batch.", data=data)
        found = {layer: _statistics(layer, counted.result()) or before[layer] for layer, counted in moments.items()}
    finally:
        for layer, values in found.items():
            for variable, value in zip(statistics_of(layer), values, strict=True):
                variable.assign(ops.cast(ops.copy(ops.convert_to_tensor(value)), variable.dtype))


def is_updated(layer):
    """Whether a layer is a batch normalization whose statistics training updates."""
    return isinstance(layer, keras.layers.BatchNormalization) and layer.built and layer.trainable


def statistics_of(layer):
    with_renorm = (layer.moving_stddev,) if _renormalizes(layer) else ()
    return layer.moving_mean, layer.moving_variance, *with_renorm


def _statistics(layer, moments):
    """Returns the values of `statistics_of` for (mean, variance), or `None` for `None`."""
    if moments is None or not _renormalizes(layer):
        return moments
    mean, variance = moments
    return mean, variance, np.sqrt(variance + layer.epsilon)


def _renormalizes(layer):
    return getattr(layer, "renorm", False)  # older versions of Keras have no batch renormalization


@contextlib.contextmanager
def _collecting(layer, moments):
    """Makes a normalization count its inputs and use the statistics of the batch, without noise of a subclass."""

    def call(inputs, training=None, mask=None):
        moments.add(inputs, mask)
        return keras.layers.BatchNormalization.call(layer, inputs, training=True, mask=mask)

    renorm = _renormalizes(layer)
    object.__setattr__(layer, "call", call)
    layer.renorm = False
    try:
        yield
    finally:
        object.__delattr__(layer, "call")
        layer.renorm = renorm


class Moments:
    """Mean and variance of each channel over many batches.

    Batches are merged by Chan's formula: a difference of the mean square and the squared mean would cancel in float32.
    """

    def __init__(self, axis):
        self.axis = axis
        self.count = self.mean = self.squares = 0.0  # the number of values, and the sum of squared distances

    def add(self, x, mask=None):
        x = ops.cast(x, "float32")
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        weights = (
            ops.ones_like(x) if mask is None else ops.cast(ops.expand_dims(mask, -1), "float32") * ops.ones_like(x)
        )
        count = ops.sum(weights, axes, keepdims=True)
        mean = ops.sum(x * weights, axes, keepdims=True) / ops.maximum(count, 1.0)
        rest = ops.sum((x - mean) * weights, axes, keepdims=True)  # of the rounded mean
        squares = ops.sum(ops.square(x - mean) * weights, axes, keepdims=True)
        parts = (ops.convert_to_numpy(part).astype("float64").reshape(-1) for part in (count, mean, rest, squares))
        count, mean, rest, squares = parts
        share = rest / np.maximum(count, 1)
        self._merge(count, mean + share, squares - share * rest)

    def _merge(self, count, mean, squares):
        """Merges with another part, by [Chan, Golub and LeVeque, 1979](https://doi.org/10.2307/2683386)."""
        total = np.maximum(self.count + count, 1)
        distance = mean - self.mean
        self.squares = self.squares + squares + distance**2 * self.count * count / total
        self.mean = self.mean + distance * count / total
        self.count = self.count + count

    def result(self):
        """Returns mean and variance, or `None` if there was no value."""
        return (self.mean, self.squares / self.count) if np.all(self.count) else None


def inputs_of(data):
    """Yields the inputs of each batch of arrays or of a dataset, without labels."""
    for batch in _batches(data):
        x = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)[0]
        yield keras.tree.map_structure(lambda array: ops.convert_to_tensor(_backend.from_foreign(array)), x)


def _batches(data):
    return _split(data) if is_arrays(data) else one_pass(data)


def is_arrays(data):
    """Whether data are arrays, (x, y) or (x, y, sample_weight), rather than batches."""
    return isinstance(data, (np.ndarray, dict, tuple)) or ops.is_tensor(data)


def _split(data):
    x = data[0] if isinstance(data, tuple) else data
    for start in range(0, len(keras.tree.flatten(x)[0]), BATCH):
        yield (keras.tree.map_structure(lambda array: array[start : start + BATCH], x),)  # noqa: B023


def check_form(data):
    """Checks that data are arrays or a dataset that can be iterated repeatedly, without reading it."""
    if is_arrays(data):
        x = keras.tree.flatten(data[0] if isinstance(data, tuple) and data else data)
        is_right = bool(x) and all(len(getattr(array, "shape", ())) > 0 for array in x)
    else:
        is_right = is_dataset(data) and is_repeatable(data)
    if not is_right:
        fail("`data` must be arrays, or a dataset that can be iterated repeatedly.", data=data)
    return data


def check_data(data):
    """Checks that data are arrays or a dataset that can be iterated repeatedly, with at least one batch."""
    check_form(data)
    try:
        first = next(inputs_of(data), None)
    except (TypeError, ValueError) as error:
        fail(f"`data` must have inputs that can be converted to tensors: {error}", data=data)
    if first is None:
        fail("`data` must have at least one batch.", data=data)
    return data
