"""The distributions that the outputs of a classifier describe, and divergences between them."""

import dataclasses
import re

import keras
from keras import ops

from keras_reg._outputs import losses_by_output, names_of_outputs
from keras_reg._validation import fail
from keras_reg.losses import LabelSmoothingCrossentropy

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
        is_categorical: Whether the last axis is one distribution over classes. Otherwise, each number is a separate
            probability.
        from_logits: Whether the numbers are logits.
    """

    is_categorical: bool
    from_logits: bool

    def logs(self, outputs):
        """Returns the logarithms of the probabilities of all events, with these events on the last axis."""
        outputs = ops.cast(outputs, "float32")
        if self.is_categorical:
            return ops.log_softmax(outputs, axis=-1) if self.from_logits else ops.log(ops.maximum(outputs, LEAST))
        if self.from_logits:
            return ops.stack([ops.log_sigmoid(outputs), ops.log_sigmoid(-outputs)], axis=-1)
        return ops.log(ops.maximum(ops.stack([outputs, 1 - outputs], axis=-1), LEAST))

    def outputs(self, logs):
        """Returns the outputs that have these `logs`: the inverse of `logs`, up to a constant in categorical logits."""
        if self.is_categorical:
            return logs if self.from_logits else ops.exp(logs)
        of_one, of_zero = (ops.take(logs, event, axis=-1) for event in (0, 1))
        return of_one - of_zero if self.from_logits else ops.exp(of_one)

    def per_example(self, events):
        """Sums over events, and over independent probabilities of one example or position."""
        events = ops.sum(events, axis=-1)
        return events if self.is_categorical or len(events.shape) == 1 else ops.sum(events, axis=-1)

    def divergence(self, outputs, others):
        """Returns the mean of KL(p || q) over the batch and over positions."""
        logs, other_logs = self.logs(outputs), self.logs(others)
        return ops.mean(self.per_example(ops.exp(logs) * (logs - other_logs)))

    def jensen_shannon(self, *outputs):
        """Returns the mean Jensen-Shannon divergence of several outputs over the batch and over positions.

        It is the mean of KL(p || m) over the outputs, where m is the mean of their probabilities.
        """
        logs = [self.logs(output) for output in outputs]
        mixture = sum(map(ops.exp, logs)) / len(logs)
        log_mixture = ops.log(ops.maximum(mixture, LEAST))
        return sum(ops.mean(self.per_example(ops.exp(log) * (log - log_mixture))) for log in logs) / len(logs)

    def entropy(self, outputs):
        """Returns the mean entropy over the batch and over positions."""
        logs = self.logs(outputs)
        return -ops.mean(self.per_example(ops.exp(logs) * logs))


def distributions(penalty, model, outputs, from_logits):
    """Returns the `Distribution` of each output, read from the losses, or else from the last activations."""
    outputs = keras.tree.flatten(outputs)
    names = names_of_outputs(model.model) if getattr(model.model, "outputs", None) else []
    if len(names) != len(outputs):  # a subclassed model
        names = list(range(len(outputs)))
    losses = losses_by_output(names, model.given_loss) or [None] * len(names)
    layers = _last_layers(model.model, len(names))
    found = [_distribution(*each, from_logits) for each in zip(losses, layers, outputs, strict=True)]
    if None in found:
        also = " or `divergence`" if hasattr(penalty, "divergence") else ""
        fail(
            f"`{type(penalty).__name__}` needs outputs that are probabilities or logits of a classifier. Neither the "
            f"loss nor the last layer says which: compile a cross-entropy, or pass `from_logits`{also}.",
            loss=losses[found.index(None)],
            output=names[found.index(None)],
        )
    return found


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
    (loss,) = losses_by_output(names, loss) or [None]
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
    """Returns a `Distribution`, read from the loss or else from the last layer, or `None` if neither tells."""
    known = _of_loss(loss, output) or _of_layer(layer)
    if from_logits is None:
        return known
    is_categorical = _may_have_classes(output) if known is None else known.is_categorical
    return Distribution(is_categorical, from_logits)


def _of_loss(loss, output):
    for classes, is_categorical in ((CATEGORICAL, True), (BERNOULLI, False)):
        if _is_one_of(loss, classes):
            loss = keras.losses.get(loss) if isinstance(loss, str) else loss
            config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
            return Distribution(is_categorical and _may_have_classes(output), bool(config.get("from_logits", False)))
    return None


def _may_have_classes(output):
    """Whether the last axis may be one of classes: it is not the batch axis, and is longer than 1."""
    return len(output.shape) > 1 and output.shape[-1] != 1


def _is_one_of(loss, classes):
    """Whether a loss, its name or its function belongs to one of these classes of losses."""
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    functions = [getattr(keras.losses, _snake_case(cls.__name__), None) for cls in classes]
    return isinstance(loss, classes) or (callable(loss) and loss in functions)


def _snake_case(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _of_layer(layer):
    kinds = {keras.activations.softmax: True, keras.activations.sigmoid: False}
    activation = _activation(layer)
    return Distribution(kinds[activation], False) if activation in kinds else None


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
