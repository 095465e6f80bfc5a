"""The distributions that the outputs of a classifier describe, and divergences between them."""

import dataclasses

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
LEAST = 1e-7  # of a probability, as in Keras' losses


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What the numbers of one output mean.

    Attributes:
        is_categorical: Whether the last axis is one distribution over classes. Otherwise each number is a probability
            of its own.
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

    def per_example(self, events):
        """Sums over events, and over independent probabilities of one example or position."""
        events = ops.sum(events, axis=-1)
        return events if self.is_categorical else ops.sum(events, axis=-1)

    def divergence(self, outputs, others):
        """Returns the mean of KL(p || q) over the batch and over positions."""
        logs, other_logs = self.logs(outputs), self.logs(others)
        return ops.mean(self.per_example(ops.exp(logs) * (logs - other_logs)))

    def entropy(self, outputs):
        """Returns the mean entropy over the batch and over positions."""
        logs = self.logs(outputs)
        return -ops.mean(self.per_example(ops.exp(logs) * logs))


def distributions(penalty, model, outputs, from_logits):
    """Returns the `Distribution` of each output, judged by the losses, or by the last activations."""
    outputs = keras.tree.flatten(outputs)
    names = names_of_outputs(model.model) if getattr(model.model, "outputs", None) else []
    if len(names) != len(outputs):  # a subclassed model
        names = list(range(len(outputs)))
    losses = losses_by_output(names, model.given_loss) or [None] * len(names)
    layers = _last_layers(model.model, len(names))
    found = [_judge(*each, from_logits) for each in zip(losses, layers, outputs, strict=True)]
    if None in found:
        also = " or `divergence`" if hasattr(penalty, "divergence") else ""
        fail(
            f"`{type(penalty).__name__}` needs outputs that are probabilities or logits of a classification. The loss "
            f"and the last layer do not tell: compile a cross-entropy, or pass `from_logits`{also}.",
            loss=losses[found.index(None)],
            output=names[found.index(None)],
        )
    return found


def _judge(loss, layer, output, from_logits):
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    known = _of_loss(loss, output) or _of_layer(layer)
    if from_logits is None:
        return known
    is_categorical = output.shape[-1] != 1 if known is None else known.is_categorical
    return Distribution(is_categorical, from_logits)


def _of_loss(loss, output):
    for classes, is_categorical in ((CATEGORICAL, True), (BERNOULLI, False)):
        names = [cls for cls in classes if isinstance(loss, cls)]
        functions = [getattr(keras.losses, name, None) for name in FUNCTIONS[is_categorical]]
        if names or (loss is not None and loss in functions):
            config = loss.get_config() if names else {}
            return Distribution(is_categorical and output.shape[-1] != 1, bool(config.get("from_logits", False)))
    return None


FUNCTIONS = {
    True: ("categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy"),
    False: ("binary_crossentropy", "binary_focal_crossentropy"),
}


def _of_layer(layer):
    activation = (
        keras.activations.softmax if isinstance(layer, keras.layers.Softmax) else getattr(layer, "activation", None)
    )
    kinds = {keras.activations.softmax: True, keras.activations.sigmoid: False}
    return Distribution(kinds[activation], False) if activation in kinds else None


def _last_layers(model, count):
    tensors = keras.tree.flatten(getattr(model, "output", None) if getattr(model, "outputs", None) else None)
    if len(tensors) != count:
        return [None] * count
    return [_named(model, name) for name in getattr(model, "output_names", [])] if count > 1 else [model.layers[-1]]


def _named(model, name):
    return next((layer for layer in model.layers if layer.name == name), None)
