"""Labels that fit the head: some backends take others without a word, and learn NaN or another class."""

import itertools

import numpy as np
from keras import tree

from keras_reg._validation import fail, fits
from keras_reg.transfer._data import Batches, Stream, batches_of, has_an_end

SHOWN = 5  # wrong labels in a message


def check_every_batch(name, data, target, steps=None):
    """Checks the labels of a whole dataset, which takes a pass through it, of `steps` batches where there is no end.

    Arrays have been looked at, and a `Stream` looks at its labels itself.
    """
    if data is None or isinstance(data, (Batches, Stream)) or target is None or target.form is None:
        return
    if has_an_end(data) or steps is not None:
        for _, labels, _ in itertools.islice(batches_of(data), steps):
            check_batch(name, labels, target)


def check_batch(name, labels, target):
    """Checks labels that are at hand; all is known of them before anything is cast."""
    if target is None:
        return
    if labels is None:
        fail(f"`{name}` must have labels too.", labels=labels)
    if len(tree.flatten(labels)) != 1:
        fail(f"`{name}` must have one array of labels, since the head has one output.", labels=type(labels).__name__)
    labels = np.asarray(tree.flatten(labels)[0])
    labels = labels.astype("float32") if labels.dtype.kind == "V" else labels  # bfloat16
    if labels.dtype.kind not in "biuf":
        fail(
            f"Labels of `{name}` must be numbers. `np.unique(labels, return_inverse=True)[1]` converts names.",
            dtype=str(labels.dtype),
            labels=labels.ravel()[:SHOWN].tolist(),
        )
    if target.form is not None:
        _check_form(name, labels, target)


def _check_form(name, labels, target):
    as_ids, as_outputs = _has_shape_of_ids(labels, target), fits(labels.shape, target.shape)
    if target.form == "shares":
        if not as_ids and not as_outputs:
            fail(f"Labels of `{name}` must have one number for each output.", shape=labels.shape, outputs=target.shape)
        _check_values(name, labels, _between(labels), "numbers from 0 to 1: the loss is a binary crossentropy")
    elif "ids" in target.form and as_ids:
        _check_ids(name, labels, target)
    elif "distributions" in target.form and as_outputs:
        _check_values(name, labels, _between(labels), "one-hot or shares from 0 to 1")
        if target.chosen:
            _check_sums(name, labels)
    else:
        _refuse_form(name, labels, target)


def _has_shape_of_ids(labels, target):
    """The shape of the outputs without that of the classes, or with 1 in its place."""
    shape = labels.shape
    one_more = len(shape) == len(target.shape) and shape[-1] == 1
    return fits(shape[:-1] if one_more else shape, target.shape[:-1])


def _check_ids(name, labels, target):
    ignored = labels == target.ignored if target.ignored is not None else np.zeros(labels.shape, bool)
    right = (labels >= 0) & (labels < target.classes)  # not a number is neither
    if labels.dtype.kind == "f":
        right &= labels == np.floor(labels)
    what = f"integers from 0 to {target.classes - 1}: the head has {target.classes} classes"
    _check_values(name, labels, right | ignored, what)


def _between(labels):
    return (labels >= 0) & (labels <= 1)


def _check_values(name, labels, right, expected):
    wrong = labels[~right]
    if wrong.size:
        fail(f"Labels of `{name}` must be {expected}.", labels=np.unique(wrong)[:SHOWN].tolist())


def _check_sums(name, labels):
    sums = labels.sum(-1, dtype="float64")
    wrong = sums[np.abs(sums - 1) > 1e-2]  # those in half precision are not exact
    if wrong.size:
        fail(
            f"Labels of `{name}` must sum to 1 in each row. Where several classes may hold at once, give "
            "`loss=keras.losses.BinaryCrossentropy(from_logits=True)`.",
            sums=np.unique(wrong)[:SHOWN].tolist(),
        )


def _refuse_form(name, labels, target):
    forms = {
        "ids": "class ids, one integer for each example; one-hot labels need `CategoricalCrossentropy`",
        "distributions": "one-hot, with one number for each class; class ids need `SparseCategoricalCrossentropy`",
        "ids or distributions": "class ids or one-hot",
    }
    forms["ids"] = "class ids or one-hot" if target.chosen else forms["ids"]
    fail(
        f"Labels of `{name}` must be {forms[target.form]}; the head has {target.classes} classes.",
        shape=labels.shape,
        outputs=target.shape,
    )
