"""The form of labels and outputs that a loss expects."""

import dataclasses
import warnings

import keras

from keras_reg._outputs import losses_by_output, names_of_outputs
from keras_reg._validation import fail
from keras_reg.losses import LabelSmoothingCrossentropy

# The form of labels, by the names of functions in `keras.losses`.
FORMS = {
    "sparse_categorical_crossentropy": "ids",
    "categorical_crossentropy": "distributions",
    "categorical_focal_crossentropy": "distributions",
    "binary_crossentropy": "shares",
    "binary_focal_crossentropy": "shares",
}
CLASSES = {
    keras.losses.SparseCategoricalCrossentropy: "ids",
    keras.losses.CategoricalCrossentropy: "distributions",
    keras.losses.CategoricalFocalCrossentropy: "distributions",
    keras.losses.BinaryCrossentropy: "shares",
    keras.losses.BinaryFocalCrossentropy: "shares",
    LabelSmoothingCrossentropy: "ids or distributions",
}
LOGITS, PROBABILITIES = "logits", "probabilities"
# Layers that keep logits logits.
TRANSPARENT = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


@dataclasses.dataclass(frozen=True)
class Target:
    """The labels that the loss of one output expects.

    Attributes:
        output: The name of the output.
        form: "ids", "distributions", "ids or distributions", "shares" (a number from 0 to 1 per output), or `None` for
            an unknown loss.
        shape: The shape of the output.
        ignored: A class id that the loss ignores, or `None`.
        chosen: Whether the loss was chosen by the form of the labels.
    """

    output: str
    form: str | None
    shape: tuple
    ignored: int | None = None
    chosen: bool = False

    @property
    def classes(self):
        return self.shape[-1]


def targets_of(model, loss, chosen=False):
    """Returns a list with the `Target` of each output of a model, given the `loss` argument of `compile`."""
    names = names_of_outputs(model)
    losses = losses_by_output(names, loss) or [None] * len(names)
    return [_target(*each, chosen) for each in zip(names, model.outputs, losses, strict=True)]


def _target(name, output, loss, chosen):
    loss, shape = _only(loss), tuple(output.shape)
    axis = getattr(loss, "axis", -1)
    form = _form(loss) if axis in (-1, len(shape) - 1) else None
    return Target(name, form, shape, getattr(loss, "ignore_class", None), chosen)


def default_loss(form):
    """Returns the loss of a head that returns logits, for labels of this form."""
    kinds = {
        "ids": keras.losses.SparseCategoricalCrossentropy,
        "distributions": keras.losses.CategoricalCrossentropy,
        "shares": keras.losses.BinaryCrossentropy,
    }
    return kinds[form](from_logits=True)


def check_loss(loss):
    """Checks for a loss as in `compile`."""
    if not callable(_only(loss)) and not isinstance(loss, (list, tuple, dict)):
        fail("`loss` must be a loss or the name of one in Keras.", loss=loss)
    return loss


def check_outputs(head, loss):
    """Checks that the head returns what the loss expects: logits or probabilities."""
    loss = _only(loss)
    form, given = _form(loss), _activation(head)
    if form is None or given is None:
        return
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    from_logits = bool(config.get("from_logits", False))
    name = getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__)
    if given == LOGITS and not from_logits:
        fail(
            "`loss` must have `from_logits=True`, since the last layer of the head has no activation and returns "
            "logits. If you pass a number of classes as the head, the right loss is chosen for you.",
            loss=name,
        )
    if given == PROBABILITIES and from_logits:
        warnings.warn(
            f"`loss` must not have `from_logits=True`: the head returns probabilities, to which the loss {name!r} "
            "would apply an activation again. Remove the activation or `from_logits`.",
            stacklevel=5,
        )


def _only(loss):
    """Returns a single loss in a list or dict, or the loss of a name."""
    while isinstance(loss, (list, tuple, dict)) and len(loss) == 1:
        loss = next(iter(loss.values())) if isinstance(loss, dict) else loss[0]
    if isinstance(loss, str):
        try:
            return keras.losses.get(loss)
        except ValueError:
            fail("`loss` must be a loss or the name of one in Keras.", loss=loss)
    return loss


def _form(loss):
    if isinstance(loss, keras.losses.Loss):
        return next((form for cls, form in CLASSES.items() if type(loss) is cls), None)
    name = getattr(loss, "__name__", None)
    return FORMS.get(name) if loss is getattr(keras.losses, str(name), None) else None


def _activation(head):
    """Returns what a head returns, judging by its last layer, or `None` if that does not tell."""
    if isinstance(head, keras.Model):
        layers = [layer for layer in head.layers if not isinstance(layer, TRANSPARENT)]
        return _activation(layers[-1]) if layers and len(getattr(head, "outputs", None) or [0]) == 1 else None
    if isinstance(head, keras.layers.Softmax):
        return PROBABILITIES
    activation = getattr(head, "activation", None)
    if activation in (keras.activations.softmax, keras.activations.sigmoid):
        return PROBABILITIES
    dense = isinstance(head, (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv1D, keras.layers.Conv2D))
    return LOGITS if dense and activation in (None, keras.activations.linear) else None
