from typing import Any

import keras
from keras import ops

from keras_reg._strength import Strength
from keras_reg._typing import Config, Tensor, Tensors
from keras_reg._validation import check_flag, fail
from keras_reg.layers._composite import moves_pixels
from keras_reg.training._augmentations import as_augmentation, augmented_images
from keras_reg.training._penalties._penalty import Penalty
from keras_reg.training._what_outputs_mean import distributions

COPIES = 2  # augmented copies of each input


@keras.saving.register_keras_serializable(package="keras_reg")
class JensenShannonConsistency(Penalty):
    """Penalizes differences between the outputs for an image and for two augmented copies of it (AugMix).

    The term is the Jensen-Shannon divergence of the three outputs: the mean of KL(p || m) over the three, where m is
    the mean of their probabilities. The outputs for the copies are not compared with the labels. Labels and sample
    weights are not used, so examples of sample weight 0 count. Positions that a Keras mask leaves out do not count.
    With several outputs, the terms of those with the loss of a classifier are summed. A step takes about three times as
    long.

    Args:
        augmentation: A layer of `keras_reg.layers`, such as `AugMix`, an image layer of Keras, or a `keras.Sequential`
            of these. It changes the inputs as the `augmentation` of the model has left them, and is drawn anew for each
            copy. It must not mix samples. If there is one output per pixel, it must not move pixels.
        weight: Number of at least 0, or a `keras_reg.Strength`. The paper uses 12.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation. For sigmoid outputs, the divergence is that of Bernoulli distributions.
        name: Name in the logs. Defaults to "jensen_shannon_consistency".

    Raises:
        ValueError: If an argument is out of range, or if `augmentation` mixes samples; in training, if the augmentation
            does not accept the inputs, if it moves pixels and there is one output per pixel, or if the outputs are not
            those of a classifier.

    Example:

    >>> from keras_reg import layers, training
    >>> augmentation = layers.AugMix(value_range=(0, 1))
    >>> training.JensenShannonConsistency(augmentation).name
    'jensen_shannon_consistency'

    References:
        - [AugMix](https://arxiv.org/abs/1912.02781) (Hendrycks et al., 2020).
    """

    def __init__(
        self,
        augmentation: keras.layers.Layer,
        weight: float | Strength = 12.0,
        from_logits: bool | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        augmentation = as_augmentation(augmentation)
        if augmentation._mixes:
            fail("`augmentation` must not mix samples.", augmentation=augmentation.name)
        super().__init__(weight, name, **kwargs)
        self.augmentation = augmentation
        self.from_logits = None if from_logits is None else check_flag("from_logits", from_logits)

    def compute(self, step: Any, x: Tensors, y: Tensors, y_pred: Tensors, sample_weight: Tensors) -> Tensor:
        place, inputs = step.changed_input(x, self.augmentation)
        self._check_positions(inputs, y_pred)
        copies = [augmented_images(self.augmentation, inputs) for _ in range(COPIES)]
        passes = [y_pred, *(step.run(step.with_input(x, place, copy)) for copy in copies)]
        kinds = distributions(self, step.model, y_pred, self.from_logits)
        outputs = list(zip(*map(keras.tree.flatten, passes), strict=True))
        divergences = [kind.jensen_shannon(*outputs[number]) for kind, number in kinds]
        return sum(divergences) + ops.zeros((), "float32")

    def _check_positions(self, inputs, y_pred):
        """Refuses outputs that would belong to other pixels than those of the first pass."""
        if not moves_pixels(self.augmentation):
            return
        rank = max(len(array.shape) for array in keras.tree.flatten(inputs))
        shapes = [tuple(output.shape) for output in keras.tree.flatten(y_pred)]
        if rank > 2 and any(len(shape) >= rank for shape in shapes):
            fail(
                f"`{type(self).__name__}` compares outputs pixel by pixel, so its `augmentation` must not move pixels.",
                augmentation=self.augmentation.name, outputs=shapes,
            )  # fmt: skip

    def get_config(self) -> Config:
        augmentation = keras.saving.serialize_keras_object(self.augmentation)
        return {**super().get_config(), "augmentation": augmentation, "from_logits": self.from_logits}
