from typing import Any, Literal

import keras

from keras_reg._typing import DataFormat, StrengthLike
from keras_reg.layers._mixer import Mixer


@keras.saving.register_keras_serializable(package="keras_reg")
class CutMix(Mixer):
    """Replaces a box of each image by the same box of another one of its batch, and mixes their labels by area.

    With lambda ~ Beta(alpha, alpha), the box has the area share 1 - lambda and the shape of the image, in whole pixels;
    a label keeps exactly the share of pixels that its image keeps. Pixels are selected, never computed with: integer
    images stay integers and a NaN outside the box stays outside. In inference the layer is the identity.

    Args:
        alpha: Parameter of Beta(alpha, alpha), in (0, 1e30], or a `keras_reg.Strength`; 1 is uniform.
        rate: Probability that an image is mixed, in [0, 1], or a `keras_reg.Strength`.
        num_classes: Number of classes, needed for integer labels, which come back one-hot in float32; 1 for one logit,
            with labels 0 and 1, which come back as (batch, 1). Not needed for float labels, nor inside
            `keras_reg.training.RegularizedModel`, where integer labels stay integers.
        mode: "sample" draws a lambda for each image, "batch" one for the batch.
        data_format: "channels_last" or "channels_first"; Keras' setting where `None`.
        seed: Integer of at least 0; one seed makes a run repeatable.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks". Masks and dense maps are cut by the same box.
        labels: Integer ids (batch,) or (batch, 1), one-hot, soft or multi-label (batch, classes), regression targets,
            floats (batch, positions, classes), or dense maps (batch, height, width[, classes]). Floats keep their
            dtype and are mixed in float32.
        sample_weight: Weights of shape (batch,), mixed like labels, or (batch, height, width), cut by the same box.
        training: `False` returns the data as they are, with class ids as ids. Defaults to `True`; inside a model, to
            the `training` argument of the model's call, or `False` if it has none.
        index: Integer of at least 0, or a scalar integer tensor: the number of the batch. The draw then depends only on
            `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), or (batch, channels, height, width) with "channels_first".

    Output shape:
        That of the input; integer labels become one-hot.

    Raises:
        ValueError: For arguments out of range, images that are not a batch, batch sizes that differ, bounding boxes
            (a box half covered by a cut has no right answer), integer labels without `num_classes` or out of its range
            (in compiled code their one-hot rows are NaN instead).

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import CutMix
    >>> x = np.arange(4.0).reshape(4, 1, 1, 1) * np.ones((4, 8, 8, 1))
    >>> images, labels = CutMix(num_classes=4, seed=0)(x, np.arange(4))
    >>> np.allclose([np.mean(np.asarray(images)[i] == i) for i in range(4)], np.diag(np.asarray(labels)))
    True

    References:
        - [CutMix: Regularization Strategy to Train Strong Classifiers](https://arxiv.org/abs/1905.04899) (Yun et al.,
          2019). There the box is clipped at the border, so that lambda is no longer Beta, and the partner is a random
          permutation with one lambda a batch; here the box lies wholly inside, its corner uniform over what is valid.
    """

    cuts = True

    def __init__(
        self,
        alpha: StrengthLike = 1.0,
        rate: StrengthLike = 1.0,
        num_classes: int | None = None,
        mode: Literal["sample", "batch"] = "sample",
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, rate, num_classes, mode, data_format, seed, **kwargs)
