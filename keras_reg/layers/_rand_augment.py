from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_reg._renamed import renamed
from keras_reg._typing import Config, DataFormat, Kind, Pair, StrengthLike
from keras_reg._validation import check_integer, fail
from keras_reg.layers._policies._magnitudes import NARROW
from keras_reg.layers._policies._policy import UniformPolicy


@keras.saving.register_keras_serializable(package="keras_reg")
class RandAugment(UniformPolicy):
    """Applies a few random operations of the same magnitude to each image, one after another.

    Operations and their directions are drawn per image, with equal probabilities. Masks, boxes and keypoints follow the
    operations that move pixels. All frames of a video change alike. The operations and magnitudes are those of
    torchvision. In inference, the layer is the identity.

    Args:
        num_ops: Number of operations per image, an integer of at least 1. An operation may be drawn several times.
        magnitude: Strength of the operations, an integer from 0 to `num_magnitude_bins - 1`.
        num_magnitude_bins: Number of magnitudes into which the ranges are divided, an integer of at least 2.
        operations: The operations to draw from: a list of "identity", "shear_x", "shear_y", "translate_x",
            "translate_y", "rotate", "brightness", "color", "contrast", "sharpness", "posterize", "solarize",
            "auto_contrast", "equalize" and "invert". `None` means all of them except "invert".
        rate: Probability that an image is changed, in [0, 1], or a `keras_reg.Strength`.
        interpolation: "nearest" or "bilinear", for operations that move pixels.
        fill_value: Value of pixels from outside the image, a number that the dtype of the images can hold.
        value_range: Range (black, white) of the pixels. With `None`, it is (0, 255), which only `uint8` images accept.
        mask_fill: Value of masks and label maps outside the image, a number that their dtype can hold.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes of moved images are clipped, and those outside the image get class -1.
        kind: Kind of sample: "image", "video", or `None`, which treats inputs with four axes as images and inputs with
            five axes as videos.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, which are not changed, except dense maps, which move with the pixels.
        sample_weight: Weights, which are not changed, except those of shape (batch, height, width), which move with the
            pixels. Pixels from outside the image have weight 0.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), or videos (batch, time, height, width, channels), with 1 or 3 channels.
        With "channels_first", the channels are the second axis. A single sample without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers.

    Raises:
        ValueError: For arguments out of range, images whose number of channels is not known to be 1 or 3, images that
            are not `uint8` without a `value_range`, numbers that the dtype of the images or masks cannot hold, and
            entries with positions in the images that cannot be moved, such as `landmarks`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandAugment
    >>> images = np.zeros((4, 8, 8, 3), "uint8")
    >>> np.asarray(RandAugment(num_ops=1, operations=["invert"])(images)).mean().item()
    255.0

    References:
        - [RandAugment](https://arxiv.org/abs/1909.13719) (Cubuk et al., 2020).
    """

    space = NARROW

    @renamed(n="num_ops", m="magnitude")
    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        operations: Sequence[str] | None = None,
        rate: StrengthLike = 1.0,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        fill_value: float = 0,
        value_range: Pair | None = None,
        mask_fill: float = 0,
        bounding_box_format: str = "xyxy",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        num_ops = check_integer("num_ops", num_ops, low=1)
        magnitude = check_integer("magnitude", magnitude, low=0)
        super().__init__(
            num_magnitude_bins, operations, rate, interpolation, fill_value, value_range, mask_fill,
            bounding_box_format, kind, data_format, seed, **kwargs,
        )  # fmt: skip
        if magnitude >= self.num_magnitude_bins:
            expected = "`magnitude` must be less than `num_magnitude_bins`."
            fail(expected, magnitude=magnitude, num_magnitude_bins=num_magnitude_bins)
        self.num_ops, self.magnitude = num_ops, magnitude

    @property
    def uniform_numbers(self) -> int:  # type: ignore[override]
        return 2 * self.num_ops

    def _draw(self, u, ops):
        operation = self._operation(u[:, : self.num_ops], ops)
        return operation, ops.ones_like(operation) * self.magnitude, u[:, self.num_ops :] < 0.5

    def get_config(self) -> Config:
        return {**super().get_config(), "num_ops": self.num_ops, "magnitude": self.magnitude}
