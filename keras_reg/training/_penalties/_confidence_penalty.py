from typing import Any

import keras
from keras import ops

from keras_reg._strength import Strength
from keras_reg._typing import Config, Tensor, Tensors
from keras_reg._validation import check_flag
from keras_reg.training._penalties._penalty import Penalty
from keras_reg.training._what_outputs_mean import distributions


@keras.saving.register_keras_serializable(package="keras_reg")
class ConfidencePenalty(Penalty):
    """Penalizes confident predictions: adds the negative entropy of the outputs to the loss.

    Like label smoothing, this keeps a network from becoming certain, but it does not change the targets. Labels and
    sample weights are not used. Positions that a Keras mask leaves out do not count. With several outputs, the terms of
    those with the loss of a classifier are summed.

    Args:
        weight: Number of at least 0, or a `keras_reg.Strength`. The paper uses values from 0.1 to 2.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation.
        name: Name in the logs. Defaults to "confidence_penalty".

    Raises:
        ValueError: If `weight` is not a number of at least 0; in training, if the outputs are not those of a
            classifier.

    Example:

    >>> from keras_reg import training
    >>> training.ConfidencePenalty(0.1).name
    'confidence_penalty'

    References:
        - [Regularizing neural networks by penalizing confident output distributions](https://arxiv.org/abs/1701.06548)
          (Pereyra et al., 2017).
    """

    def __init__(
        self, weight: float | Strength = 0.1, from_logits: bool | None = None, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(weight, name, **kwargs)
        self.from_logits = None if from_logits is None else check_flag("from_logits", from_logits)

    def compute(self, step: Any, x: Tensors, y: Tensors, y_pred: Tensors, sample_weight: Tensors) -> Tensor:
        kinds, outputs = distributions(self, step.model, y_pred, self.from_logits), keras.tree.flatten(y_pred)
        entropies = [kind.entropy(outputs[place]) for kind, place in kinds]
        return -sum(entropies) + ops.zeros((), "float32")

    def get_config(self) -> Config:
        return {**super().get_config(), "from_logits": self.from_logits}
