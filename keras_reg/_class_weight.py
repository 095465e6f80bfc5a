"""Checks of the `class_weight` of `fit`, from which Keras makes one weight per sample."""

from collections.abc import Mapping

import keras

from keras_reg._outputs import losses_by_output, names_of_outputs
from keras_reg._validation import fail


def check_class_weight(class_weight, labels, model, losses=None, sample_weight=None):
    """Checks `class_weight` before training.

    Keras ignores weights of classes that do not exist. It fails for several outputs and for maps, and reads labels
    (batch, steps), or an array in a list, as one-hot rows.

    Args:
        class_weight: Dict from class ids to weights, or `None`.
        labels: The labels, or `None` if they are those of a dataset.
        model: The model.
        losses: The `loss` argument of `compile`.
        sample_weight: The sample weights of the data, or `None`.
    """
    outputs = getattr(model, "outputs", None) or []
    if class_weight is None:
        return
    if not isinstance(class_weight, Mapping):
        fail("`class_weight` must be a dict from class ids to numbers.", class_weight=class_weight)
    if sample_weight is not None:
        fail(
            "`class_weight` and sample weights cannot be combined. Multiply the sample weights instead.",
            sample_weight=type(sample_weight).__name__,
        )
    if len(outputs) > 1:
        fail(
            "`class_weight` needs a model with one output. For several, pass `sample_weight` with the structure of the "
            "labels.",
            class_weight=class_weight, outputs=names_of_outputs(model),
        )  # fmt: skip
    if isinstance(labels, (dict, list, tuple)) and any(hasattr(part, "shape") for part in keras.tree.flatten(labels)):
        fail("`class_weight` needs labels in one array.", labels=keras.tree.map_structure(type, labels))
    _check_one_class_per_sample(class_weight, labels, outputs)
    if len(outputs) == 1:
        loss = (losses_by_output(names_of_outputs(model), losses) or [None])[0]
        _check_classes(class_weight, tuple(outputs[0].shape), loss)


def _check_one_class_per_sample(class_weight, labels, outputs):
    shape, has_maps = getattr(labels, "shape", None), any(len(output.shape) > 2 for output in outputs)
    one_each = shape is not None and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1))
    if (has_maps and not one_each) or len(shape or ()) > 2:
        fail(
            "`class_weight` weights whole samples, so it needs one class per sample. For one label per pixel or step, "
            "use the `class_weight` of `keras_reg.losses.LabelSmoothingCrossentropy`, or a `sample_weight` with the "
            "shape of the labels.",
            class_weight=class_weight,
            y=shape and tuple(shape),
            outputs=[tuple(output.shape) for output in outputs],
        )


def _check_classes(class_weight, shape, loss):
    """Outputs are one number per class only for a crossentropy: with other losses, they may be embeddings."""
    if len(shape) != 2 or shape[1] is None or not _is_crossentropy(loss):
        return
    classes, ignored = max(shape[1], 2), getattr(loss, "ignore_class", None)
    unknown = [key for key in class_weight if key not in range(classes) and (ignored is None or key != ignored)]
    if unknown:
        fail(f"`class_weight` must have class ids from 0 to {classes - 1} as keys.", unknown=unknown)


def _is_crossentropy(loss):
    name = type(loss).__name__ if isinstance(loss, keras.losses.Loss) else getattr(loss, "__name__", loss)
    return isinstance(name, str) and name.lower().endswith("crossentropy")
