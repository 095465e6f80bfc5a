"""The distributions that the outputs of a classifier describe, and divergences between them."""

import dataclasses
import re

import keras
from keras import ops

from keras_reg._backend import not_compiled
from keras_reg._masks import mask_of, mean_where
from keras_reg._outputs import losses_by_output, names_of_outputs
from keras_reg._validation import fail
from keras_reg.losses import LabelSmoothingCrossentropy
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
LEAST = 1e-7  # of a probability, as in Keras' losses


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What the numbers of one output mean.

    Attributes:
        is_categorical: Whether one axis is a distribution over classes. Otherwise, each number is a separate
            probability.
        from_logits: Whether the numbers are logits.
        axis: The axis of the classes, a negative number.
    """

    is_categorical: bool
    from_logits: bool
    axis: int = -1

    @property
    def of_probabilities(self):
        """The same distribution, given by probabilities."""
        return dataclasses.replace(self, from_logits=False)

    def classes_last(self, outputs):
        """Returns outputs with the classes on the last axis."""
        return outputs if self.axis == -1 else ops.moveaxis(outputs, self.axis, -1)

    def classes_back(self, outputs):
        """Returns outputs with the classes where they belong: the inverse of `classes_last`."""
        return outputs if self.axis == -1 else ops.moveaxis(outputs, -1, self.axis)

    def logs(self, outputs):
        """Returns the logarithms of the probabilities of all events, with these events on the last axis."""
        outputs = ops.cast(self.classes_last(outputs), "float32")
        if self.is_categorical:
            return ops.log_softmax(outputs, axis=-1) if self.from_logits else ops.log(ops.maximum(outputs, LEAST))
        if self.from_logits:
            return ops.stack([ops.log_sigmoid(outputs), ops.log_sigmoid(-outputs)], axis=-1)
        return ops.log(ops.maximum(ops.stack([outputs, 1 - outputs], axis=-1), LEAST))

    def outputs(self, logs):
        """Returns the outputs that have these `logs`: the inverse of `logs`, up to a constant in categorical logits."""
        if self.is_categorical:
            return self.classes_back(logs if self.from_logits else ops.exp(logs))
        of_one, of_zero = (ops.take(logs, event, axis=-1) for event in (0, 1))
        return of_one - of_zero if self.from_logits else ops.exp(of_one)

    def per_example(self, events):
        """Sums over events, and over independent probabilities of one example or position."""
        events = ops.sum(events, axis=-1)
        return events if self.is_categorical or len(events.shape) == 1 else ops.sum(events, axis=-1)

    def divergence(self, outputs, others, mask=None):
        """Returns the mean of KL(p || q) over the batch and over the positions that the mask keeps."""
        logs, other_logs = self.logs(outputs), self.logs(others)
        return mean_where(mask, self.per_example(ops.exp(logs) * (logs - other_logs)))

    def jensen_shannon(self, *outputs):
        """Returns the Jensen-Shannon divergence of several outputs: the mean of KL(p || m) over the outputs.

        m is the mean of their probabilities. It is averaged over the batch and over positions that are not masked.
        """
        logs, mask = [self.logs(output) for output in outputs], mask_of(outputs[0])
        mixture = sum(map(ops.exp, logs)) / len(logs)
        log_mixture = ops.log(ops.maximum(mixture, LEAST))
        each = [self.per_example(ops.exp(log) * (log - log_mixture)) for log in logs]
        return sum(mean_where(mask, values) for values in each) / len(logs)

    def entropy(self, outputs):
        """Returns the mean entropy over the batch and over positions that are not masked."""
        logs = self.logs(outputs)
        return -mean_where(mask_of(outputs), self.per_example(ops.exp(logs) * logs))


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
            return Distribution(has_classes, from_logits, axis if has_classes else -1)
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
