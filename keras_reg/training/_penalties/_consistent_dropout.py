from typing import Any

import keras

from keras_reg._typing import Tensor, Tensors
from keras_reg._validation import fail
from keras_reg.training._penalties._divergence import ComparesPasses


@keras.saving.register_keras_serializable(package="keras_reg")
class ConsistentDropout(ComparesPasses):
    """R-Drop: trains on two passes with different dropout masks, and penalizes their difference.

    The loss is the mean of the losses of both passes plus weight / 4 * (KL(p1 || p2) + KL(p2 || p1)). Metrics and
    moving statistics come from the first pass. Positions that a Keras mask leaves out do not count. With several
    outputs, the divergences of those with the loss of a classifier are summed. A step takes about twice the time.

    Args:
        weight: Number of at least 0, or a `keras_reg.Strength`. The paper uses 5 for translation and 0.6 for images.
        divergence: A function of the outputs of two passes, for outputs that are not those of a classifier. It returns
            one number, or one per example. Defaults to the Kullback-Leibler divergence.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation.
        name: Name in the logs. Defaults to "consistent_dropout".

    Raises:
        ValueError: If an argument is out of range; in training, if nothing in the network is random, or if the outputs
            are not those of a classifier and there is no `divergence`.

    Example:

    >>> from keras_reg import training
    >>> training.ConsistentDropout(0.6).name
    'consistent_dropout'

    References:
        - [R-Drop](https://arxiv.org/abs/2106.14448) (Wu et al., 2021). The loss here is half of its equation 4, so
          that it is comparable to the plain loss.
    """

    def added(
        self, step: Any, x: Tensors, y: Tensors, y_pred: Tensors, sample_weight: Tensors
    ) -> tuple[Tensor, Tensor]:
        if not step.has_random_layers():
            fail(
                "`ConsistentDropout` needs a network with dropout or another random layer. Otherwise, both passes are "
                "equal.",
                model=step.model.model.name,
            )
        others = step.run(x, same_masks=False)
        term = (self.between(step, y_pred, others) + self.between(step, others, y_pred)) / 4
        first, second = step.loss(y, y_pred, sample_weight), step.loss(y, others, sample_weight)
        weight = keras.ops.convert_to_tensor(self._value_or_weight("weight"), "float32")
        other_half = (second - first) / 2
        return keras.ops.cast(weight * term, other_half.dtype) + other_half, term

    def compute(self, step: Any, x: Tensors, y: Tensors, y_pred: Tensors, sample_weight: Tensors) -> Tensor:
        return self.added(step, x, y, y_pred, sample_weight)[1]
