from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_reg._renamed import renamed
from keras_reg._typing import Config, DataFormat, Kind, StrengthLike
from keras_reg._validation import check_choice, check_number, check_span, span_of
from keras_reg.layers._batch._boxes import FORMATS
from keras_reg.layers._batch._fill_values import check_number_or_channels
from keras_reg.layers._batch._shapes import height_width
from keras_reg.layers._mover import Mover, Outside
from keras_reg.layers._pixels._affine import Affine, around_center, cosine_and_sine

LEAST_SCALE = 1e-3  # of an enlargement, so that positions in the image stay finite


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomAffine(Mover):
    """Rotates, shifts, zooms and shears each image at random, with one resampling.

    The parameters of each image are drawn uniformly from their ranges. The image is sheared first, then rotated and
    zoomed about its center, and then shifted by whole pixels. Shifts, and quarter turns of square images, only move
    pixels, and do not change their values. Masks and dense label maps use the nearest pixel, bounding boxes become the
    smallest boxes around the moved ones, and keypoints move along. All frames of a video move alike. In inference, the
    layer is the identity.

    Args:
        rotation: Angle in degrees, counterclockwise, in [-360, 360]. For this argument and the following ones, a number
            x stands for the range from -x to x, and a pair is the range (least, most).
        translation: Shifts as shares of the width and of the height, in [-1, 1], which are drawn independently.
            Positive shifts go right and down. They are rounded to whole pixels.
        zoom: Relative enlargement, in (-1, 9]: 0.2 makes objects 20 % larger, and -0.2 makes them 20 % smaller.
        shear: Horizontal shift from one row to the next, and vertical shift from one column to the next, in pixels, in
            [-1, 1]. They are drawn independently.
        rate: Probability that an image is changed, in [0, 1], or a `keras_reg.Strength`.
        interpolation: "bilinear" or "nearest". Interpolated integer pixels are rounded.
        fill_mode: How pixels from outside the image are filled: "constant"; "reflect", which mirrors the image without
            repeating its border; or "nearest", which repeats its border.
        fill_value: Value of these pixels for "constant": a number, or one number per channel, which the dtype of the
            images must be able to hold.
        mask_fill: Value of masks and label maps outside the image, a number that their dtype can hold.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes of changed images are clipped, and those outside the image get class -1.
        kind: Kind of sample: "image", "video", or `None`, which treats inputs with four axes as images and inputs with
            five axes as videos.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, which are not changed, except dense maps.
        sample_weight: Weights, which are not changed, except those of shape (batch, height, width), which move with the
            images. With "constant", pixels from outside the image have weight 0.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), or videos (batch, time, height, width, channels). With
        "channels_first", the channels are the second axis. A single sample without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers.

    Raises:
        ValueError: For arguments out of range, numbers that the dtype of the images or masks cannot hold, and entries
            with positions in the images that cannot be moved, such as `landmarks`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomAffine
    >>> image = np.arange(4).reshape(1, 2, 2, 1)
    >>> np.asarray(RandomAffine(rotation=(90, 90))(image))[0, :, :, 0].tolist()
    [[1, 3], [0, 2]]

    References:
        - [Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis](
          https://www.microsoft.com/en-us/research/publication/best-practices-for-convolutional-neural-networks-applied-to-visual-document-analysis/)
          (Simard et al., 2003).
    """

    uniform_numbers = 6
    kinds = ("image", "video")

    @renamed(degrees="rotation", translate="translation", scale="zoom")
    def __init__(
        self,
        rotation: float | Sequence[float] = 0,
        translation: float | Sequence[float] = 0,
        zoom: float | Sequence[float] = 0,
        shear: float | Sequence[float] = 0,
        rate: StrengthLike = 1.0,
        interpolation: Literal["bilinear", "nearest"] = "bilinear",
        fill_mode: Literal["constant", "reflect", "nearest"] = "constant",
        fill_value: float | Sequence[float] = 0,
        mask_fill: float = 0,
        bounding_box_format: str = "xyxy",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        rotation = check_span("rotation", rotation, -360, 360)
        translation = check_span("translation", translation, -1, 1)
        zoom = check_span("zoom", zoom, -1, 9, open_low=True)
        shear = check_span("shear", shear, -1, 1)
        interpolation = check_choice("interpolation", interpolation, ("bilinear", "nearest"))
        fill_mode = check_choice("fill_mode", fill_mode, ("constant", "reflect", "nearest"))
        fill_value = check_number_or_channels("fill_value", fill_value)
        mask_fill = check_number("mask_fill", mask_fill)
        bounding_box_format = check_choice("bounding_box_format", bounding_box_format, FORMATS)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.rotation, self.translation, self.zoom, self.shear = rotation, translation, zoom, shear
        self.interpolation, self.fill_mode, self.fill_value = interpolation, fill_mode, fill_value
        self.mask_fill, self.bounding_box_format = mask_fill, bounding_box_format

    @property
    def outside(self) -> Outside:  # type: ignore[override]
        return Outside(self.fill_mode, self.fill_value, self.mask_fill)

    def geometry(self, batch: Any, random: Any) -> Affine:
        """Returns the position in its image from which each new pixel comes."""
        ops, size = batch.ops, height_width(batch.images, self.data_format, batch.ops)

        def drawn(name, column):
            low, high = span_of(getattr(self, name))
            return ops.where(random.selected, low + random.uniform[:, column] * (high - low), 0.0)

        linear = _inverse(drawn("rotation", 0), drawn("zoom", 1), drawn("shear", 2), drawn("shear", 3), ops)
        shares = zip((drawn("translation", 4), drawn("translation", 5)), size[::-1], strict=True)
        shifts = [ops.round(share * ops.cast(n, "float32")) for share, n in shares]
        return around_center(linear, shifts, size, ops)

    def get_config(self) -> Config:
        names = (
            "rotation", "translation", "zoom", "shear", "interpolation", "fill_mode", "fill_value", "mask_fill",
            "bounding_box_format",
        )  # fmt: skip
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _inverse(rotation, zoom, shear_across, shear_down, ops):
    """Returns the inverse (xx, xy, yx, yy) of a shear across, a shear down, a rotation and an enlargement."""
    cos, sin = cosine_and_sine(rotation, ops)
    scale, both = ops.maximum(1.0 + zoom, LEAST_SCALE), 1.0 + shear_across * shear_down
    xx, xy = both * cos - shear_across * sin, -both * sin - shear_across * cos
    yx, yy = sin - shear_down * cos, cos + shear_down * sin
    return xx / scale, xy / scale, yx / scale, yy / scale
