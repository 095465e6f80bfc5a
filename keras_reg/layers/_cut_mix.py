from typing import Any, Literal

import keras

from keras_reg._renamed import renamed
from keras_reg._typing import DataFormat, Kind, StrengthLike
from keras_reg.layers._mixer import Mixer


@keras.saving.register_keras_serializable(package="keras_reg")
class CutMix(Mixer):
    """Replaces a box of each image by the same box of another image in the batch, and mixes the labels by area.

    With lambda ~ Beta(alpha, alpha), the box has the area share 1 - lambda and the aspect ratio of the image, in whole
    pixels. The label weight is exactly the share of pixels that the image keeps. Pixels are only selected, so integer
    images stay integers, and a NaN outside the box stays outside. In a video, the box is the same in all frames. In a
    signal, it is an interval with the share 1 - lambda of the length. In inference, the layer is the identity.

    Args:
        alpha: Parameter of Beta(alpha, alpha), in (0, 1e30], or a `keras_reg.Strength`; 1 is uniform.
        rate: Probability that an image is mixed, in [0, 1], or a `keras_reg.Strength`.
        num_classes: Number of classes, required for integer labels, which are returned one-hot in float32. Use 1 for
            one logit with labels 0 and 1, which are returned as (batch, 1). Not required for float labels, or inside
            `keras_reg.training.RegularizedModel`, where integer labels stay integers.
        mode: "sample" draws a lambda per image, "batch" draws one per batch.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks". Masks and dense maps are cut by the same box.
        labels: Integer ids (batch,) or (batch, 1), one-hot, soft or multi-label (batch, classes), regression targets,
            floats (batch, positions, classes), or dense maps (batch, height, width[, classes]). Floats keep their
            dtype and are mixed in float32.
        sample_weight: Weights of shape (batch,), mixed like labels, or (batch, height, width), cut by the same box. A
            sample of weight 0 still has a share in mixed labels.
        training: `False` returns the data unchanged, also class ids. Defaults to `True`. Inside a model, it defaults to
            the `training` argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), videos (batch, time, height, width, channels), or with `kind="signal"`
        signals (batch, time, channels). With "channels_first", the channels are the second axis.

    Output shape:
        The shape of the input. Integer labels become one-hot.

    Raises:
        ValueError: For arguments out of range, images that are not a batch, batch sizes that differ, bounding boxes
            (a box that is partly covered has no correct result), keypoints, and integer labels without `num_classes` or
            out of its range (in compiled code, their one-hot rows are NaN instead).

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import CutMix
    >>> x = np.arange(4.0).reshape(4, 1, 1, 1) * np.ones((4, 8, 8, 1))
    >>> images, labels = CutMix(num_classes=4, seed=0)(x, np.arange(4))
    >>> np.allclose([np.mean(np.asarray(images)[i] == i) for i in range(4)], np.diag(np.asarray(labels)))
    True

    References:
        - [CutMix: Regularization Strategy to Train Strong Classifiers](https://arxiv.org/abs/1905.04899) (Yun et al.,
          2019). The paper clips the box at the border, so lambda no longer follows a Beta distribution, permutes the
          batch at random, and draws one lambda per batch. Here the box lies inside the image, at a uniform position.
    """

    cuts = True

    @renamed(beta="alpha")
    def __init__(
        self,
        alpha: StrengthLike = 1.0,
        rate: StrengthLike = 1.0,
        num_classes: int | None = None,
        mode: Literal["sample", "batch"] = "sample",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, rate, num_classes, mode, kind, data_format, seed, **kwargs)
