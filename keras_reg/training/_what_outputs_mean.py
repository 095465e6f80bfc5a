"""What the outputs of a model mean: their distributions, read from its losses or else from its last layers."""

import dataclasses
import re

import keras

from keras_reg._backend import not_compiled
from keras_reg._outputs import losses_by_output, names_of_outputs
from keras_reg._validation import fail
from keras_reg.losses import LabelSmoothingCrossentropy
from keras_reg.training._distributions import Distribution
from keras_reg.training._losses import is_crossentropy
from keras_reg.training._mixture import MixedLoss

CATEGORICAL = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    LabelSmoothingCrossentropy,
)
BERNOULLI = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
REGRESSION = (
    keras.losses.MeanSquaredError,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanAbsolutePercentageError,
    keras.losses.MeanSquaredLogarithmicError,
    keras.losses.Huber,
    keras.losses.LogCosh,
    keras.losses.CosineSimilarity,
    keras.losses.Poisson,
)


def distributions(penalty, model, outputs, from_logits):
    """Returns [(distribution, place)] of the outputs of a classifier, with their places among all outputs.

    A `Distribution` is read from the loss, or else from the last activation. Outputs without a loss or with that of a
    regression are left out if there are others.
    """
    outputs = keras.tree.flatten(outputs)
    names = names_of_outputs(model.model) if getattr(model.model, "outputs", None) else []
    if len(names) != len(outputs):  # a subclassed model
        names = list(range(len(outputs)))
    losses = losses_of(names, model.given_loss)
    layers = _last_layers(model.model, len(names))
    places = [place for place, pair in enumerate(zip(losses, layers, strict=True)) if _may_classify(*pair)]
    found = []
    for place in places or range(len(outputs)):
        distribution = _distribution(losses[place], layers[place], outputs[place], from_logits)
        if distribution is None:
            also = " or `divergence`" if hasattr(penalty, "divergence") else ""
            fail(
                f"`{type(penalty).__name__}` needs outputs that are probabilities or logits of a classifier. Neither "
                f"the loss nor the last layer says which: compile a cross-entropy, or pass `from_logits`{also}.",
                loss=losses[place],
                output=names[place],
            )
        found.append((distribution, place))
    return found


def losses_of(names, losses):
    """Returns the loss of each output as the user has given it. A `RegularizedModel` may have wrapped it."""
    found = losses_by_output(names, losses) or [None] * len(names)
    return [loss.given if isinstance(loss, MixedLoss) else loss for loss in found]


def _may_classify(loss, layer):
    return _is_classifying(layer) if loss is None else not _is_one_of(loss, REGRESSION)


def distribution_of(network, loss, output, from_logits=None, without_loss=None):
    """Returns the `Distribution` of the only output of a network, or `None` if it is a regression.

    Args:
        network: The model whose last layer is examined.
        loss: The `loss` argument of `compile`, or `None`.
        output: The output, or a specification of it.
        from_logits: Whether the outputs are logits. `None` reads this from the loss.
        without_loss: What the outputs are if there is neither a loss nor a last layer with softmax or sigmoid:
            "numbers" of a regression, or "logits" if the last layer is linear. Otherwise, this raises an error.
    """
    names = names_of_outputs(network) if getattr(network, "outputs", None) else [network.name]
    (loss,) = losses_of(names, loss)
    (layer,) = _last_layers(network, 1)
    found = _distribution(loss, layer, output, from_logits)
    if found is not None or _is_one_of(loss, REGRESSION):
        return found
    if loss is None and without_loss == "numbers":
        return None
    if loss is None and without_loss == "logits" and _activation(layer) is keras.activations.linear:
        return Distribution(_may_have_classes(output), True)
    fail(
        "Neither the loss nor the last layer says whether the outputs are logits, probabilities, or those of a "
        "regression. For a classifier, pass `from_logits`. For a regression, compile the model with a loss of Keras, "
        'such as "mse".',
        loss=loss,
        model=network.name,
    )


def _distribution(loss, layer, output, from_logits):
    """Returns a `Distribution`, read from the loss or else from the last layer, or `None` if neither tells.

    If `from_logits` is given and neither tells, several numbers per example exclude each other, as after a softmax.
    """
    known = _of_loss(loss, output) or _of_layer(layer, output)
    if from_logits is None:
        return known
    if known is None:
        return Distribution(_may_have_classes(output), from_logits)
    return dataclasses.replace(known, from_logits=from_logits)


def _of_loss(loss, output):
    if is_crossentropy(loss):
        return Distribution(_may_have_classes(output), False)
    for classes, is_categorical in ((CATEGORICAL, True), (BERNOULLI, False)):
        if _is_one_of(loss, classes):
            loss = keras.losses.get(loss) if isinstance(loss, str) else loss
            config = _config(loss) if isinstance(loss, keras.losses.Loss) else {}
            from_logits = bool(config.get("from_logits", False))
            axis = _from_last(config.get("axis", -1), output)
            has_classes = is_categorical and _may_have_classes(output, axis)
            return Distribution(has_classes, from_logits, axis)
    return None


@not_compiled  # `torch.compile` cannot trace the serialization of a function
def _config(loss):
    """Returns the config of a loss with its axis, which Keras leaves out of the config of a sparse cross-entropy."""
    config = loss.get_config()
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        config = {**super(keras.losses.SparseCategoricalCrossentropy, loss).get_config(), **config}
    return config


def _from_last(axis, output):
    """Returns the same axis as a negative number."""
    return axis if axis < 0 else axis - len(output.shape)


def _may_have_classes(output, axis=-1):
    """Whether an axis may be one of classes: it is not the batch axis, and is longer than 1."""
    return len(output.shape) > 1 and output.shape[axis] != 1


def _is_one_of(loss, classes):
    """Whether a loss, its name or its function belongs to one of these classes of losses."""
    if is_crossentropy(loss):
        return False
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    functions = [getattr(keras.losses, _snake_case(cls.__name__), None) for cls in classes]
    return isinstance(loss, classes) or (callable(loss) and loss in functions)


def _snake_case(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _of_layer(layer, output):
    if not _is_classifying(layer):
        return None
    axis = getattr(layer, "axis", -1) if isinstance(layer, keras.layers.Softmax) else -1
    if not isinstance(axis, int):
        fail("The last layer of a classifier must have its classes on one axis.", axis=axis, layer=layer.name)
    return Distribution(_activation(layer) is keras.activations.softmax, False, _from_last(axis, output))


def _is_classifying(layer):
    return _activation(layer) in (keras.activations.softmax, keras.activations.sigmoid)


def _activation(layer):
    return keras.activations.softmax if isinstance(layer, keras.layers.Softmax) else getattr(layer, "activation", None)


def _last_layers(model, count):
    """Returns the layer that computes each output, or `None` if it is not known."""
    tensors = keras.tree.flatten(getattr(model, "output", None) if getattr(model, "outputs", None) else None)
    if len(tensors) != count:
        return [None] * count
    names = list(getattr(model, "output_names", [])) or [model.layers[-1].name]
    return [_inside(_named(model, name)) for name in names]


def _inside(layer):
    """Returns the last layer of a network with one output, or the layer in a wrapper. Others stay as they are."""
    if isinstance(layer, keras.Model) and len(getattr(layer, "outputs", None) or []) == 1:
        return _last_layers(layer, 1)[0]
    return _inside(layer.layer) if isinstance(layer, keras.layers.Wrapper) else layer


def _named(model, name):
    return next((layer for layer in model.layers if layer.name == name), None)
