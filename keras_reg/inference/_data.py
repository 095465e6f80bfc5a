"""The predictions of a model on arrays, or on the batches of a dataset."""

import keras
import numpy as np
from keras import ops

from keras_reg._datasets import is_dataset, is_finite, is_repeatable, one_pass
from keras_reg._masks import mask_of
from keras_reg._outputs import naming_missing_labels
from keras_reg._validation import fail
from keras_reg.inference._inference_model import infer
from keras_reg.training._copies import network_of

FORMS = "(x, y) or (x, y, sample_weight)"


def predictions_on(model, data):
    """Returns (x, y, sample_weight, outputs) as NumPy arrays. For a dataset, x is that of its first batch."""
    if isinstance(data, tuple):
        x, y, weight = _arrays(data, f"`data` must be {FORMS}, or a dataset.", data=f"{len(data)} entries")
        found = [(x, y, weight, model.predict(x, verbose=0))] if len(keras.tree.flatten([x, y])[0]) else []
    elif is_dataset(data):
        if not is_finite(data):
            fail("`data` must be a finite dataset.", data=type(data).__name__)
        found = [_of_batch(model, batch) for batch in one_pass(data)]
    else:
        fail(f"`data` must be {FORMS}, or a dataset.", data=type(data).__name__)
    if not found:
        fail("`data` must have at least one example.", data=type(data).__name__)
    xs, ys, weights, outputs = zip(*found, strict=True)
    if not hasattr(outputs[0], "shape"):
        names = sorted(outputs[0]) if isinstance(outputs[0], dict) else type(outputs[0]).__name__
        fail(
            "`model` must return one array. Of a model that returns a dict, such as `MonteCarlo`, pass "
            '`keras.Model(inputs, model(inputs)["mean"])`.',
            outputs=names,
            model=model.name,
        )
    y, outputs = (np.concatenate([_array(part) for part in parts]) for parts in (ys, outputs))
    if len(y) != len(outputs):
        fail("`data` must have one label per example.", labels=len(y), examples=len(outputs))
    weight = None if weights[0] is None else np.concatenate([_array(part) for part in weights])
    masks = Masks(network_of(model))
    if masks.are_there(xs[0]):
        weight = weights_where(np.concatenate([masks.predict(x, verbose=0) for x in xs]), weight)
    return xs[0], y, weight, outputs


class Masks(keras.Model):
    """Predicts the Keras mask of the output of a network: 1 for each position that counts, otherwise 0."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def are_there(self, x):
        """Whether the outputs for these inputs have a mask."""
        first = keras.tree.map_structure(lambda array: ops.convert_to_tensor(_array(array)[:1]), x)
        outputs = keras.tree.flatten(infer(self.network, first))
        return len(outputs) == 1 and mask_of(outputs[0]) is not None

    def call(self, inputs):
        (output,) = keras.tree.flatten(infer(self.network, inputs))
        return ops.cast(mask_of(output), "float32")


def weights_where(counts, weight):
    """Returns weights that are 0 where `counts`, (examples, ...), is 0."""
    if weight is None:
        return np.asarray(counts, "float64")
    weight = weight[..., 0] if weight.ndim > counts.ndim and weight.shape[-1] == 1 else weight
    if weight.shape != counts.shape[: weight.ndim]:
        return weight  # which is refused where it is used
    return np.reshape(weight, [*weight.shape, *[1] * (counts.ndim - weight.ndim)]) * counts


def check_evaluation_data(data):
    """Checks for (x, y), (x, y, sample_weight) or a dataset that can be iterated repeatedly, with one example."""
    is_right, first = False, data
    if not isinstance(data, (tuple, list)) and is_dataset(data) and is_repeatable(data) and is_finite(data):
        first = next(one_pass(data), None)
    if isinstance(first, (tuple, list)) and 2 <= len(first) <= 3 and first[1] is not None:
        arrays = keras.tree.flatten(first[0])
        is_right = bool(arrays) and all(len(getattr(array, "shape", ())) > 0 and len(array) > 0 for array in arrays)
    if not is_right:
        fail(
            "`validation_data` must be (x, y), (x, y, sample_weight), or a finite dataset of such batches that can be "
            "iterated repeatedly, with at least one example.",
            validation_data=type(data).__name__,
        )
    return data


def logs_on(model, data):
    """Returns the loss and the metrics of a model on checked data."""
    with naming_missing_labels(model, "validation_data"):
        if isinstance(data, (tuple, list)):
            x, y, weight = keras.utils.unpack_x_y_sample_weight(tuple(data))
            return model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
        return model.evaluate(data, verbose=0, return_dict=True)


def _of_batch(model, batch):
    x, y, weight = _arrays(batch, f"`data` must have batches {FORMS}.", batch=type(batch).__name__)
    return x, y, weight, model.predict_on_batch(x)


def _arrays(given, expected, **received):
    """Returns x and labels of a tuple or list as arrays, and its weights, or raises an error."""
    if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= 3 or given[1] is None:
        fail(expected, **received)
    x, y, weight = keras.utils.unpack_x_y_sample_weight(tuple(given))
    x, y = keras.tree.map_structure(_array, x), _array(y)
    arrays = [*keras.tree.flatten(x), y]
    if any(array.ndim == 0 for array in arrays):
        fail("`data` must be arrays with one entry per example.", shapes=[array.shape for array in arrays])
    return x, y, weight


def _array(x):
    return ops.convert_to_numpy(x) if ops.is_tensor(x) or not hasattr(x, "numpy") else np.asarray(x)
