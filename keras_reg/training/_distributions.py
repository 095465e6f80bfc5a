"""The distributions that the outputs of a classifier describe, and divergences between them."""

import dataclasses

from keras import ops

from keras_reg._masks import mask_of, mean_where

LEAST = 1e-7  # of a probability, as in Keras' losses
IMPOSSIBLE = -1e30  # the logarithm of a probability of 0: finite, so that it may be multiplied by 0


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What the numbers of one output mean.

    Attributes:
        is_categorical: Whether one axis is a distribution over classes. Otherwise, each number is a separate
            probability.
        from_logits: Whether the numbers are logits.
        axis: The axis of the classes, or of the separate probabilities of one example or position. A negative number.
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
        if not self.from_logits:
            events = outputs if self.is_categorical else ops.stack([outputs, 1 - outputs], axis=-1)
            return ops.log(ops.maximum(events, LEAST))
        if self.is_categorical:
            logs = ops.log_softmax(outputs, axis=-1)
        else:
            logs = ops.stack([ops.log_sigmoid(outputs), ops.log_sigmoid(-outputs)], axis=-1)
        return ops.maximum(logs, IMPOSSIBLE)

    def outputs(self, logs):
        """Returns the outputs that have these `logs`: the inverse of `logs`, up to a constant in categorical logits."""
        if self.is_categorical:
            return self.classes_back(logs if self.from_logits else ops.exp(logs))
        of_one, of_zero = (ops.take(logs, event, axis=-1) for event in (0, 1))
        return self.classes_back(of_one - of_zero if self.from_logits else ops.exp(of_one))

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
