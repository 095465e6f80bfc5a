"""The temperature of a classifier, fitted to data, and the diagram of its reliability."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_reg._dtypes import dtype_of
from keras_reg._masks import masked_like
from keras_reg._validation import check_flag, check_integer, fail, have_shape_of_ids
from keras_reg.inference._data import predictions_on, weights_where
from keras_reg.inference._inference_model import check_one_array, check_predictions, check_trained
from keras_reg.inference._inputs import inputs_like
from keras_reg.inference._temperature import fitted_temperature
from keras_reg.metrics import ExpectedCalibrationError
from keras_reg.metrics._expected_calibration_error import MOST_BINS
from keras_reg.training._copies import compile_config_of, network_of
from keras_reg.training._distributions import LEAST
from keras_reg.training._networks import as_functional, is_graph
from keras_reg.training._what_outputs_mean import distribution_of, losses_of


def calibrate(model: keras.Model, data: Any, from_logits: bool | None = None) -> keras.Model:
    """Returns a model whose logits are those of `model` divided by a temperature, which is fitted to data.

    The temperature minimizes the negative log-likelihood of the data, which must not be the training data. It is a
    number from 0.01 to 100. Predicted classes do not change. The result is a plain Functional model around `model`,
    which shares its weights, and is compiled with the same loss and metrics. It loads without this package if the
    layers of `model` do; with a loss or a metric of this package, load it with `compile=False`. Its outputs have the
    same form, logits or probabilities. Its layer "temperature" multiplies logits by 1 / temperature.

    Args:
        model: A trained classifier with one output.
        data: A tuple (x, y) or (x, y, sample_weight) of arrays, or a finite dataset of such batches. Labels are class
            ids, or one-hot or soft labels. For independent probabilities, they are numbers from 0 to 1. Positions that
            a Keras mask leaves out, and the `ignore_class` of the loss, do not count.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation. Without a loss, a linear last layer is assumed to return logits.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If `model` is not a classifier, or if the data are empty or do not match the model.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import inference
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    >>> x, y = np.array([[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]), np.array([0, 1, 1, 2])
    >>> calibrated = inference.calibrate(model, (x, y), from_logits=True)
    >>> round(1 / calibrated.get_layer("temperature").scale, 2)  # three of four are right
    5.02

    References:
        - [On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599) (Guo et al., 2017), section 4.2.
    """
    check_trained(model)
    check_predictions(model, "`calibrate`")
    if getattr(from_logits, "shape", ()) != ():
        fail("`data` must be a pair (x, y): pass `calibrate(model, (x, y))`.", from_logits=type(from_logits).__name__)
    from_logits = None if from_logits is None else check_flag("from_logits", from_logits)
    x, y, weight, outputs = predictions_on(model, data)
    distribution = _classification(model, outputs, from_logits)
    outputs, y, weight = _predictions(model, outputs, y, weight, distribution)
    temperature = fitted_temperature(outputs, y, weight, distribution)
    network = network_of(model)
    inputs = inputs_like(network, x)
    plain = as_functional(network) if is_graph(network) else network  # which is not compiled
    given = check_one_array(plain(inputs), plain)
    outputs = _divided(given, temperature, distribution)
    if not distribution.from_logits:  # a layer has divided logits, and has kept their mask
        outputs = masked_like(outputs, [given], [network])
    calibrated = keras.Model(inputs, outputs, name=f"{network.name}_calibrated")
    config = compile_config_of(model)
    if config:
        calibrated.compile(**config)
    return calibrated


def reliability(model: keras.Model, data: Any, bins: int = 15, from_logits: bool | None = None, ax: Any = None) -> Any:
    """Draws the reliability diagram of a classifier: its accuracy against its confidence. Needs matplotlib.

    Each bar shows the accuracy in one bin of confidence. For a calibrated classifier, the bars end at the diagonal. The
    line shows the share of the predictions in each bin. The title states the expected calibration error.

    Args:
        model: A trained classifier with one output.
        data: A tuple (x, y) or (x, y, sample_weight) of arrays, or a finite dataset of such batches.
        bins: Number of bins, an integer from 1 to 1000.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation. Without a loss, a linear last layer is assumed to return logits.
        ax: The matplotlib axes to draw on, or `None` for new ones.

    Returns:
        The matplotlib axes.

    Raises:
        ValueError: If `model` is not a classifier, or if the data are empty or do not match the model.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import inference
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])
    >>> inference.reliability(model, (np.eye(3), np.arange(3))).get_xlabel()
    'confidence'

    References:
        - [On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599) (Guo et al., 2017), section 2.
    """
    check_trained(model)
    bins = check_integer("bins", bins, low=1, high=MOST_BINS)
    if ax is not None and not hasattr(ax, "bar"):
        fail("`ax` must be an `Axes` of matplotlib or None.", ax=ax)
    from_logits = None if from_logits is None else check_flag("from_logits", from_logits)
    _, y, weight, outputs = predictions_on(model, data)
    distribution = _classification(model, outputs, from_logits)
    outputs, y, weight = _predictions(model, outputs, y, weight, distribution)
    if not distribution.is_categorical and outputs.shape[-1] != 1:
        outputs, y = outputs[..., None], np.asarray(y)[..., None]  # each number is a prediction of its own
    metric = ExpectedCalibrationError(bins, distribution.from_logits)
    metric.update_state(y, outputs, weight)
    return _drawn(metric, ax)


def _classification(model, outputs, from_logits):
    loss = getattr(model, "loss", None)
    found = distribution_of(network_of(model), loss, outputs, from_logits, without_loss="logits")
    if found is None:
        fail("`model` must be a classifier. Its loss is that of a regression.", loss=loss)
    return found


def _predictions(model, outputs, y, weight, distribution):
    """Returns outputs and labels with the classes on the last axis, and weights that are 0 for ignored classes."""
    if np.ndim(y) == np.ndim(outputs):
        y = np.moveaxis(y, distribution.axis, -1)
    outputs = np.moveaxis(outputs, distribution.axis, -1)
    (loss,) = losses_of([model.name], getattr(model, "loss", None))
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None and have_shape_of_ids(y.shape, outputs.shape):
        weight = weights_where(np.reshape(y != ignored, outputs.shape[:-1]), weight)
    return outputs, y, weight


def _divided(outputs, temperature, distribution):
    """Returns outputs of the same form whose logits are divided by the temperature."""
    divide = keras.layers.Rescaling(1 / temperature, name="temperature", dtype="float32")
    if distribution.from_logits:
        return divide(outputs)
    outputs = outputs if dtype_of(outputs) == "float32" else ops.cast(outputs, "float32")
    if distribution.is_categorical:
        return keras.layers.Softmax(distribution.axis, dtype="float32")(divide(ops.log(ops.maximum(outputs, LEAST))))
    p = ops.clip(outputs, LEAST, 1 - LEAST)
    return keras.layers.Activation("sigmoid", dtype="float32")(divide(ops.log(p) - ops.log(1 - p)))


def _drawn(metric, ax):
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("`reliability` needs matplotlib. Install it with `pip install matplotlib`.") from error
    counts, hits = (ops.convert_to_numpy(sums) for sums in (metric.counts, metric.hits))
    ax = ax or plt.subplots(figsize=(4, 4), layout="constrained")[1]
    width = 1 / metric.bins
    middles = (np.arange(metric.bins) + 0.5) * width
    full = counts > 0
    ax.bar(middles[full], hits[full] / counts[full], width, edgecolor="white", label="accuracy")
    ax.plot([0, 1], [0, 1], "--", color="gray")
    ax.step(middles, counts / max(counts.sum(), 1e-12), where="mid", color="black", label="share of predictions")
    ax.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
    ax.set_title(f"expected calibration error {float(metric.result()):.3f}")
    ax.legend()
    return ax
