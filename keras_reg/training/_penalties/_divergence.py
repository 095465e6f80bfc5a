"""Penalties that compare the outputs of two passes."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_reg._masks import mask_of
from keras_reg._strength import Strength
from keras_reg._typing import Config
from keras_reg._validation import check_flag, fail
from keras_reg.training._penalties._penalty import Penalty
from keras_reg.training._what_outputs_mean import distributions


class ComparesPasses(Penalty):
    """A penalty that uses a divergence between the outputs of two passes."""

    def __init__(
        self,
        weight: float | Strength = 1.0,
        divergence: Callable[[Any, Any], Any] | None = None,
        from_logits: bool | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, name, **kwargs)
        if divergence is not None and not callable(divergence):
            fail("`divergence` must be a function of two outputs, or None.", divergence=divergence)
        self.divergence = divergence
        self.from_logits = None if from_logits is None else check_flag("from_logits", from_logits)

    def between(self, step, outputs, others, masks=None):
        """Returns the divergence of `others` from `outputs`, summed over the outputs of the network.

        Args:
            step: The running step.
            outputs: The outputs of one pass.
            others: The outputs of another pass.
            masks: A list with the Keras mask of each output. `None` takes those of `outputs`.
        """
        masks = list(map(mask_of, keras.tree.flatten(outputs))) if masks is None else masks
        pairs = list(zip(keras.tree.flatten(outputs), keras.tree.flatten(others), strict=True))
        if self.divergence is not None:
            return sum(ops.mean(ops.cast(self.divergence(*pair), "float32")) for pair in pairs)
        kinds = distributions(self, step.model, outputs, self.from_logits)
        return sum(kind.divergence(*pairs[place], masks[place]) for kind, place in kinds)

    def get_config(self) -> Config:
        divergence = keras.saving.serialize_keras_object(self.divergence)
        return {**super().get_config(), "divergence": divergence, "from_logits": self.from_logits}
