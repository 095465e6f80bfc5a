"""Mean, variance and entropies of several passes, from sums that are updated by each pass."""

import keras
from keras import ops

from keras_reg._dtypes import at_least_float32, dtype_of


class Moments:
    """The moments of outputs over passes.

    Args:
        distribution: The `Distribution` of an output, or `None` for the outputs of a regression.
    """

    def __init__(self, distribution):
        self.distribution = distribution
        self.of_probabilities = distribution and distribution.of_probabilities

    def of_first(self, output):
        """Returns the sums after the first pass: the mean, the sum of squares about it, and the sum of entropies."""
        values, entropy = self._values(output)
        return (values, ops.zeros_like(values), *entropy)

    def added(self, sums, count, output):
        """Returns the sums after a further pass, if `count` passes have been added (Welford, 1962)."""
        (mean, squares, *entropies), (values, entropy) = sums, self._values(output)
        moved = mean + (values - mean) / ops.cast(count + 1, values.dtype)
        squares = squares + (values - mean) * (values - moved)
        return (moved, squares, *(total + one for total, one in zip(entropies, entropy, strict=True)))

    def found(self, sums, count):
        """Returns the results after `count` passes."""
        mean, squares, *entropies = sums
        results = {"mean": mean, "variance": squares / (count - 1)}
        if self.distribution is None:
            return results
        entropy = self._entropy(self.of_probabilities.logs(mean))
        information = ops.maximum(entropy - entropies[0] / count, 0)  # rounding may make it negative
        return {**results, "entropy": entropy, "mutual_information": information}

    def spec(self, output):
        """Returns the specification of the results for an output."""
        dtype = at_least_float32(dtype_of(output))
        names = ["mean", "variance"] + ([] if self.distribution is None else ["entropy", "mutual_information"])
        examples = list(output.shape)
        if len(examples) > 1:
            del examples[-1 if self.distribution is None else self.distribution.axis]
        shapes = {name: output.shape if name in ("mean", "variance") else examples for name in names}
        dtypes = {name: dtype if name in ("mean", "variance") else "float32" for name in names}
        return {name: keras.KerasTensor(shapes[name], dtypes[name]) for name in names}

    def as_output(self, mean):
        """Returns a mean of probabilities in the form of the outputs."""
        if self.distribution is None or not self.distribution.from_logits:
            return mean
        return self.distribution.outputs(self.of_probabilities.logs(mean))

    def _values(self, output):
        """Returns the numbers to average, and a list with their entropy for a classifier."""
        if self.distribution is None:
            return ops.cast(output, at_least_float32(dtype_of(output))), []
        logs = self.distribution.logs(output)
        if not self.distribution.from_logits:
            return ops.cast(output, at_least_float32(dtype_of(output))), [self._entropy(logs)]
        return self.of_probabilities.outputs(logs), [self._entropy(logs)]

    def _entropy(self, logs):
        return -self.of_probabilities.per_example(ops.exp(logs) * logs)
