from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_reg._renamed import renamed
from keras_reg._typing import Config, DataFormat, Kind, StrengthLike
from keras_reg._validation import check_choice, check_integer_or_pair, check_number, fail
from keras_reg.layers._batch._boxes import FORMATS
from keras_reg.layers._batch._fill_values import check_number_or_channels
from keras_reg.layers._batch._shapes import static
from keras_reg.layers._mover import Mover, Outside
from keras_reg.layers._pixels._moves import Move, Moves


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomPadCrop(Mover):
    """Pads each image and crops it to its original size at a random position, which shifts it by whole pixels.

    Both offsets are uniform from -padding to padding. Pixels are moved, but their values are not changed. Masks, dense
    label maps and bounding boxes move with their images. All frames of a video move alike, and a signal moves along
    time. In inference, the layer is the identity.

    Args:
        padding: Pixels on each side: an integer from 0 to 2^20, or a pair (vertical, horizontal). For signals, an
            integer, the number of steps.
        rate: Probability that an image is shifted, in [0, 1], or a `keras_reg.Strength`.
        fill_mode: "constant", or "reflect", which mirrors the image without repeating its border.
        fill_value: Constant for "constant", a number or one number per channel, which the dtype of the images must be
            able to hold.
        mask_fill: The number for the padding of masks and label maps, which their dtype must be able to hold. With
            "reflect", they are reflected like the images.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes are clipped. Boxes that are cut off completely get class -1.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, which are not changed, except dense maps.
        sample_weight: Weights, which are not changed, except those of shape (batch, height, width), which move with the
            images. Pixels from outside the image have weight 0.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), videos (batch, time, height, width, channels), or with `kind="signal"`
        signals (batch, time, channels). With "channels_first", the channels are the second axis. A single sample
        without the batch axis is accepted.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: For arguments out of range, numbers that the dtype of the images or masks cannot hold, padding by
            reflection that is not smaller than the image, and entries with positions in the images that cannot be
            moved, such as `landmarks`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomPadCrop
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> np.asarray(RandomPadCrop(padding=0)(image)).tolist() == image.tolist()
    True

    References:
        - [Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385) (He et al., 2016), section
          4.2, which pads CIFAR-10 images by 4 pixels.
    """

    uniform_numbers = 2
    kinds = ("image", "video", "signal")

    _one_pass = True

    @renamed(mask_fill_value="mask_fill")
    def __init__(
        self,
        padding: int | Sequence[int],
        rate: StrengthLike = 1.0,
        fill_mode: Literal["constant", "reflect"] = "constant",
        fill_value: float | Sequence[float] = 0.0,
        mask_fill: float = 0,
        bounding_box_format: str = "xyxy",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        padding = check_integer_or_pair("padding", padding, low=0, high=2**20)  # float32 can draw all offsets
        fill_mode = check_choice("fill_mode", fill_mode, ("constant", "reflect"))
        fill_value = check_number_or_channels("fill_value", fill_value)
        mask_fill = check_number("mask_fill", mask_fill)
        bounding_box_format = check_choice("bounding_box_format", bounding_box_format, FORMATS)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.padding, self.fill_mode, self.fill_value = padding, fill_mode, fill_value
        self.mask_fill, self.bounding_box_format = mask_fill, bounding_box_format

    def _paddings(self, batch):
        """Returns the vertical and horizontal padding. Signals are only padded along time."""
        if isinstance(self.padding, (tuple, list)):
            return tuple(self.padding)
        return (self.padding, 0 if batch.is_signal else self.padding)

    @property
    def outside(self) -> Outside:  # type: ignore[override]
        return Outside(self.fill_mode, self.fill_value, self.mask_fill)

    def _check(self, batch):
        super()._check(batch)
        if batch.is_signal and isinstance(self.padding, (tuple, list)):
            fail("Expected one integer, since a signal is only padded along time.", padding=self.padding)
        axes = (-3, -2) if self.data_format == "channels_last" else (-2, -1)
        sizes = [static(batch.images, axis) for axis in axes]
        for size, padding in zip(sizes, self._paddings(batch), strict=True):
            if self.fill_mode == "reflect" and size is not None and padding >= size and padding:
                fail(f"Padding by reflection must be smaller than the image, {size} pixels.", padding=self.padding)

    def geometry(self, batch: Any, random: Any) -> Moves:
        """Returns how far each image moves up and to the left, in whole pixels."""
        ops = batch.ops
        offsets = (
            ops.where(random.selected, ops.minimum(ops.floor(u * (2 * padding + 1)), 2.0 * padding) - padding, 0.0)
            for u, padding in zip((random.uniform[:, 0], random.uniform[:, 1]), self._paddings(batch), strict=True)
        )
        return Moves(*(Move(offset=ops.cast(offset, "int32")) for offset in offsets))

    def get_config(self) -> Config:
        names = ("padding", "fill_mode", "fill_value", "mask_fill", "bounding_box_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
