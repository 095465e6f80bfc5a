"""What a loss expects of labels, and what the outputs of the head are to it."""

import dataclasses
import warnings

import keras

from keras_reg._validation import fail
from keras_reg.losses import LabelSmoothingCrossentropy

# By the names of functions in `keras.losses`: what labels are.
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
# Layers after which logits are logits still.
TRANSPARENT = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


@dataclasses.dataclass(frozen=True)
class Target:
    """What a loss expects.

    Attributes:
        form: "ids", "distributions", "ids or distributions", "shares" (numbers from 0 to 1 of each output), or `None`
            for a loss that is not known.
        shape: The shape of the outputs.
        ignored: A class id that counts for nothing, or `None`.
        chosen: Whether the loss was chosen here, by the form of the labels.
    """

    form: str | None
    shape: tuple
    ignored: int | None = None
    chosen: bool = False

    @property
    def classes(self):
        return self.shape[-1]


def target_of(model, loss, chosen=False):
    """The `Target` of a model of one output and its loss; `None` where there are several."""
    if len(model.outputs) != 1:
        return None
    loss = _only(loss)
    axis = getattr(loss, "axis", -1)
    form = _form(loss) if axis in (-1, len(model.output.shape) - 1) else None
    return Target(form, tuple(model.output.shape), getattr(loss, "ignore_class", None), chosen)


def default_loss(form):
    """The loss of a head of logits for labels of this form."""
    kinds = {
        "ids": keras.losses.SparseCategoricalCrossentropy,
        "distributions": keras.losses.CategoricalCrossentropy,
        "shares": keras.losses.BinaryCrossentropy,
    }
    return kinds[form](from_logits=True)


def check_loss(loss):
    """A loss as `compile` takes it."""
    if not callable(_only(loss)) and not isinstance(loss, (list, tuple, dict)):
        fail("`loss` must be a loss, or the name of one in Keras.", loss=loss)
    return loss


def check_outputs(head, loss):
    """Whether the loss takes the outputs of the head for what they are: logits or probabilities."""
    loss = _only(loss)
    form, given = _form(loss), _activation(head)
    if form is None or given is None:
        return
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    from_logits = bool(config.get("from_logits", False))
    name = getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__)
    if given == LOGITS and not from_logits:
        fail(
            "`loss` must have `from_logits=True`: the head returns logits, since its last layer has no activation. "
            "With a number of classes as the head, the right loss is chosen for you.",
            loss=name,
        )
    if given == PROBABILITIES and from_logits:
        warnings.warn(
            f"`loss` must not have `from_logits=True`: the head returns probabilities, and the loss {name!r} would "
            "apply an activation again. Leave out the activation or `from_logits`.",
            stacklevel=4,
        )


def _only(loss):
    """A loss that came alone in a list or dict, and the object behind a name."""
    while isinstance(loss, (list, tuple, dict)) and len(loss) == 1:
        loss = next(iter(loss.values())) if isinstance(loss, dict) else loss[0]
    if isinstance(loss, str):
        try:
            return keras.losses.get(loss)
        except ValueError:
            fail("`loss` must be a loss, or the name of one in Keras.", loss=loss)
    return loss


def _form(loss):
    if isinstance(loss, keras.losses.Loss):
        return next((form for cls, form in CLASSES.items() if type(loss) is cls), None)
    name = getattr(loss, "__name__", None)
    return FORMS.get(name) if loss is getattr(keras.losses, str(name), None) else None


def _activation(head):
    """What the outputs of a head are, by its last layer; `None` where that does not tell."""
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
