from typing import Any, Literal

import keras

from keras_reg._renamed import renamed
from keras_reg._typing import DataFormat, Kind, StrengthLike
from keras_reg.layers._mixer import Mixer


@keras.saving.register_keras_serializable(package="keras_reg")
class MixUp(Mixer):
    """Blends each image with another image in the batch, and blends their labels with the same weight.

    With lambda ~ Beta(alpha, alpha), x = lambda x1 + (1 - lambda) x2 and y = lambda y1 + (1 - lambda) y2. The
    partners come from one random cyclic shift of the batch, so no sample is mixed with itself. The expectation of the
    batch is that of the data. Images that are not selected are unchanged. In inference, the layer is the identity.

    Args:
        alpha: Parameter of Beta(alpha, alpha), in (0, 1e30], or a `keras_reg.Strength`. Small values keep lambda near 0
            or 1; 1 is uniform.
        rate: Probability that an image is mixed, in [0, 1], or a `keras_reg.Strength`.
        num_classes: Number of classes, required for integer labels, which are returned one-hot in float32. Use 1 for
            one logit with labels 0 and 1, which are returned as (batch, 1). Not required for float labels, or inside
            `keras_reg.training.RegularizedModel`, where integer labels stay integers.
        mode: "sample" draws a lambda per image, "batch" draws one per batch.
        kind: Kind of sample: "image", "video", "signal" or `None`. It is required without labels, if inputs with
            three axes may be signals (batch, time, channels) or one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes".
        labels: Integer ids (batch,) or (batch, 1), one-hot, soft or multi-label (batch, classes), regression targets,
            or dense maps (batch, height, width[, classes]). Floats keep their dtype and are mixed in float32.
        sample_weight: Weights of shape (batch,) or (batch, height, width), mixed like labels. So a sample of weight 0
            still has a share in mixed labels.
        training: `False` returns the data unchanged, also class ids. Defaults to `True`. Inside a model, it defaults to
            the `training` argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer. The random numbers then depend only on `seed` and `index`, so a parallel
            tf.data map is reproducible: `ds.enumerate().map(lambda i, xy: layer(xy, index=i))`.

    Input shape:
        Inputs of any shape: features (batch, features), signals (batch, time, channels), images
        (batch, height, width, channels), videos (batch, time, height, width, channels). Several inputs, a nest of
        arrays, are mixed with the same partner and weight. Integer images become floats of the layer's compute dtype,
        in inference too. Other integers are refused, since token ids cannot be blended.

    Output shape:
        The shape of the input. Integer labels and blended integer masks become one-hot. Bounding boxes of both images
        are kept, as (batch, 2 n, 4). Boxes of images with weight 0 have class -1.

    Raises:
        ValueError: For arguments out of range, images that are not a batch, batch sizes that differ, keypoints (a point
            belongs to one image), and integer labels without `num_classes` or out of its range (in compiled code, their
            one-hot rows are NaN instead).

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import MixUp
    >>> x, y = np.random.rand(8, 32, 32, 3), np.arange(8) % 4
    >>> images, labels = MixUp(alpha=0.4, num_classes=4, seed=0)(x, y)
    >>> np.allclose(np.asarray(labels).sum(axis=-1), 1)
    True

    References:
        - [mixup: Beyond Empirical Risk Minimization](https://arxiv.org/abs/1710.09412) (Zhang et al., 2018). The paper
          permutes the batch at random, so about one sample per batch is mixed with itself, and draws lambda once per
          batch (`mode="batch"`).
    """

    @renamed(beta="alpha")
    def __init__(
        self,
        alpha: StrengthLike = 0.2,
        rate: StrengthLike = 1.0,
        num_classes: int | None = None,
        mode: Literal["sample", "batch"] = "sample",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, rate, num_classes, mode, kind, data_format, seed, **kwargs)
