"""Checks labels against the head: some backends accept labels that do not fit, and learn NaN or another class."""

import itertools

import numpy as np

from keras_reg._datasets import is_finite
from keras_reg._outputs import by_output
from keras_reg._storage import without_bfloat16
from keras_reg._validation import are_class_ids, fail, fits, have_shape_of_ids
from keras_reg.transfer._batches import Batches
from keras_reg.transfer._data import batches_of
from keras_reg.transfer._stream import Stream

SHOWN = 5  # wrong labels that a message shows


def check_every_batch(name, data, targets, steps=None):
    """Checks the labels of a whole dataset in a pass of its own, or those of `steps` batches if it is infinite.

    The labels of arrays have been checked before, and a `Stream` checks its own.
    """
    if isinstance(data, (Batches, Stream)) or all(target.form is None for target in targets):
        return
    if is_finite(data) or steps is not None:
        for _, labels, _ in itertools.islice(batches_of(data), steps):
            check_batch(name, labels, targets)


def check_structure(name, labels, model):
    """Refuses labels in a dict that Keras does not match with the output, although the model has only one."""
    outputs = model.output if isinstance(model.output, dict) else {}
    if isinstance(labels, dict) and len(model.outputs) == 1 and set(labels) != set(outputs):
        expected = f" or a dict with the key {list(outputs)}" if outputs else ""
        fail(f"Labels of `{name}` must be one array{expected}, since the head has one output.", labels=list(labels))


def check_batch(name, labels, targets):
    """Checks the labels of one batch, or those of arrays, for each output of the head."""
    if labels is None:
        fail(f"`{name}` must contain labels.", labels=labels)
    outputs = [target.output for target in targets]
    parts = by_output(outputs, labels)
    if parts is None and len(outputs) == 1:
        fail(f"`{name}` must have one array of labels, since the head has one output.", labels=type(labels).__name__)
    if parts is None:
        fail(f"`{name}` must have one array of labels per output of the head, {outputs}.", labels=_keys(labels))
    for part, target in zip(parts, targets, strict=True):
        _check_output(name if len(outputs) == 1 else f"{name}: {target.output}", part, target)


def _keys(labels):
    return list(labels) if isinstance(labels, dict) else type(labels).__name__


def _check_output(name, labels, target):
    """Checks the labels of one output, if there are any: Keras does not need labels for an output without a loss."""
    if labels is None and target.form is None:
        return
    if labels is None:
        fail(f"`{name}` must contain labels.", labels=labels)
    labels = without_bfloat16(np.asarray(labels))
    if labels.dtype.kind not in "biuf":
        fail(
            f"Labels of `{name}` must be numbers. `np.unique(labels, return_inverse=True)[1]` converts names.",
            dtype=str(labels.dtype),
            labels=labels.ravel()[:SHOWN].tolist(),
        )
    if target.form is not None:
        _check_form(name, labels, target)


def _check_form(name, labels, target):
    as_ids, as_outputs = have_shape_of_ids(labels.shape, target.shape), fits(labels.shape, target.shape)
    if target.form == "shares":
        if not as_ids and not as_outputs:
            fail(f"Labels of `{name}` must have one number per output.", shape=labels.shape, outputs=target.shape)
        _check_values(name, labels, _between(labels), "numbers from 0 to 1: the loss is a binary crossentropy")
    elif "ids" in target.form and as_ids:
        _check_ids(name, labels, target)
    elif "distributions" in target.form and as_outputs:
        _check_values(name, labels, _between(labels), "one-hot or shares from 0 to 1")
        if target.chosen:
            _check_sums(name, labels)
    else:
        _refuse_form(name, labels, target)


def _check_ids(name, labels, target):
    what = f"integers from 0 to {target.classes - 1}: the head has {target.classes} classes"
    _check_values(name, labels, are_class_ids(labels, target.classes, target.ignored), what)


def _between(labels):
    return (labels >= 0) & (labels <= 1)


def _check_values(name, labels, right, expected):
    wrong = labels[~right]
    if wrong.size:
        fail(f"Labels of `{name}` must be {expected}.", labels=np.unique(wrong)[:SHOWN].tolist())


def _check_sums(name, labels):
    sums = labels.sum(-1, dtype="float64")
    wrong = sums[np.abs(sums - 1) > 1e-2]  # sums in half precision are not exact
    if wrong.size:
        fail(
            f"Labels of `{name}` must sum to 1 in each row. If an example can belong to several classes, use "
            "`loss=keras.losses.BinaryCrossentropy(from_logits=True)`.",
            sums=np.unique(wrong)[:SHOWN].tolist(),
        )


def _refuse_form(name, labels, target):
    forms = {
        "ids": "class ids, one integer per example; one-hot labels need `CategoricalCrossentropy`",
        "distributions": "one-hot, one number per class; class ids need `SparseCategoricalCrossentropy`",
        "ids or distributions": "class ids or one-hot",
    }
    forms["ids"] = "class ids or one-hot" if target.chosen else forms["ids"]
    fail(
        f"Labels of `{name}` must be {forms[target.form]}; the head has {target.classes} classes.",
        shape=labels.shape,
        outputs=target.shape,
    )
