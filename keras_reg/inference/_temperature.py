"""The temperature that minimizes the negative log-likelihood, which is convex in its inverse."""

import numpy as np

from keras_reg._validation import are_class_ids, fail, have_shape_of_ids
from keras_reg.training._distributions import LEAST

LOWEST, HIGHEST = 0.01, 100.0  # the minimum may lie at 0 or at infinity
STEPS = 100
MOST = float(np.float32(1 - LEAST))  # of a probability, in float32 as in the calibrated model


def fitted_temperature(outputs, y, weight, distribution):
    """Returns the temperature for the logits of these outputs.

    Args:
        outputs: Logits or probabilities, (examples, ..., classes).
        y: Class ids, or labels in the shape of the outputs.
        weight: Weights (examples,) or of each position, or `None`.
        distribution: The `Distribution` of the outputs.
    """
    weight = _weights(weight, outputs.shape if not distribution.is_categorical else outputs.shape[:-1])
    counted = weight > 0
    logits, labels = _logits_and_labels(np.asarray(outputs, "float64"), np.asarray(y), distribution, counted)
    weight = weight[counted]
    logits = np.maximum(logits, logits.max(-1, keepdims=True) - 1e6)  # -inf, for classes that are ruled out
    if not np.isfinite(logits).all():
        fail("Outputs must not be NaN or infinite.", outputs=outputs.shape)
    right = np.einsum("nk,nk->n", labels, logits)
    low, high, inverse = 1 / HIGHEST, 1 / LOWEST, 1.0
    for _ in range(STEPS):
        slope, curvature = _derivatives(logits, right, weight, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else np.nan
        moved = step if low < step < high else np.sqrt(low * high)  # Newton's step, or a bisection of the logarithm
        if abs(moved - inverse) <= 1e-9 * inverse:
            break
        inverse = moved
    return float(1 / inverse)


def _derivatives(logits, right, weight, inverse):
    """Returns the first and the second derivative of the negative log-likelihood by the inverse temperature."""
    scaled = inverse * (logits - logits.max(-1, keepdims=True))
    p = np.exp(scaled)
    p /= p.sum(-1, keepdims=True)
    mean = (p * logits).sum(-1)
    variance = (p * np.square(logits - mean[:, None])).sum(-1)
    return weight @ (mean - right), weight @ variance


def _logits_and_labels(outputs, y, distribution, counted):
    """Returns logits and labels of the predictions that are counted, each (predictions, classes).

    An independent probability has the classes 1 and 0.
    """
    if not distribution.is_categorical:
        return [found[counted] for found in _logits_and_labels_of_two(outputs, y, distribution)]
    classes = outputs.shape[-1]
    logits = outputs if distribution.from_logits else np.log(np.maximum(outputs, LEAST))
    if have_shape_of_ids(y.shape, outputs.shape):
        ids = y.reshape(-1)[counted]
        right = are_class_ids(ids, classes)
        if not right.all():
            fail(f"Labels must be class ids from 0 to {classes - 1}.", y=ids[~right][0])
        labels = np.eye(classes)[ids.astype(int)]
    elif y.shape != outputs.shape:
        fail("Labels must be class ids, or labels in the shape of the outputs.", y=y.shape, outputs=outputs.shape)
    else:
        labels = y.reshape(-1, classes).astype("float64")[counted]
    return logits.reshape(-1, classes)[counted], labels


def _logits_and_labels_of_two(outputs, y, distribution):
    if outputs.size != y.size:
        fail("Labels must have the shape of the outputs.", y=y.shape, outputs=outputs.shape)
    p = np.clip(outputs, LEAST, MOST)
    logits = (outputs if distribution.from_logits else np.log(p) - np.log1p(-p)).reshape(-1)
    y = y.reshape(-1).astype("float64")
    return np.stack([logits, np.zeros_like(logits)], -1), np.stack([y, 1 - y], -1)


def _weights(weight, shape):
    """Returns the weight of each prediction, with a sum of 1."""
    weight = np.ones(shape[:1]) if weight is None else np.asarray(weight, "float64")
    weight = weight[..., 0] if weight.ndim > 1 and weight.shape[-1] == 1 else weight
    if weight.ndim == 0 or weight.shape != shape[: weight.ndim]:
        fail("Sample weights must have one entry per example or position.", weights=weight.shape, outputs=shape)
    weight = weight.reshape([*weight.shape, *[1] * (len(shape) - weight.ndim)])
    weight = np.broadcast_to(weight, shape).reshape(-1)
    if not weight.sum() > 0 or weight.min() < 0:
        fail(
            "Sample weights must not be negative, and must not all be 0.",
            sum=float(weight.sum()),
            least=float(weight.min()),
        )
    return weight / weight.sum()
