from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg._typing import Config, DataFormat, Kind, Pair, StrengthLike, Tensor
from keras_reg._validation import check_span, span_of
from keras_reg.layers._batch._fill_values import check_has_value_range, check_value_range
from keras_reg.layers._batch._shapes import spread
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._colors import blended_within, channel_axis, check_rgb, gray, mean_gray, turned_hue
from keras_reg.layers._pixels._in_cache import applied_in_cache
from keras_reg.layers._pixels._rounding import as_pixels

NAMES = ("brightness", "contrast", "saturation", "hue")


@keras.saving.register_keras_serializable(package="keras_reg")
class ColorJitter(BatchAugmentation):
    """Changes brightness, contrast, saturation and hue of each image at random, in this order.

    The parameters of each image are drawn uniformly from their ranges. Brightness scales the pixels. Contrast
    changes their distance from the mean brightness of the image or of the whole video, and saturation changes their
    distance from their own brightness. After each of these three, values are clipped to `value_range`. Hue turns the
    color circle. In a video, all frames change alike. In inference, the layer is the identity.

    Args:
        brightness: Relative change, in [-1, 9]: the distance from black is multiplied by 1 + brightness. For this
            argument and the following ones, a number x stands for the range from -x to x, and a pair is the range
            (least, most).
        contrast: Relative change, in [-1, 9]. With -1, all pixels have the same gray.
        saturation: Relative change, in [-1, 9]. With -1, the image is gray.
        hue: Turn of the color circle, as a share of a full turn, in [-0.5, 0.5].
        rate: Probability that an image is changed, in [0, 1], or a `keras_reg.Strength`.
        value_range: Range (black, white) of the pixels. With `None`, it is (0, 255), which only `uint8` images accept.
        kind: Kind of sample: "image", "video", or `None`, which treats inputs with four axes as images and inputs with
            five axes as videos.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images".
        labels: Labels, which are not changed.
        sample_weight: Weights, which are not changed.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, 3), or videos (batch, time, height, width, 3). With "channels_first", the channels
        are the second axis. A single sample without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers.

    Raises:
        ValueError: For arguments out of range, images that do not have three channels, and images that are not `uint8`
            without a `value_range`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import ColorJitter
    >>> red = np.array([[[[200, 0, 0]]]], "uint8")
    >>> np.asarray(ColorJitter(hue=(1 / 3, 1 / 3))(red)).tolist()
    [[[[0, 200, 0]]]]

    References:
        - [A Simple Framework for Contrastive Learning of Visual Representations](https://arxiv.org/abs/2002.05709)
          (Chen et al., 2020), appendix A. torchvision, in contrast, draws the order of the four changes in each call.
    """

    uniform_numbers = 4
    keeps_integers = True
    moves_pixels = False
    kinds = ("image", "video")

    _has_range = True
    _frames_as = "rows"  # the channels of a pixel stay together
    _works_on_host = True

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
        rate: StrengthLike = 1.0,
        value_range: Pair | None = None,
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        brightness = check_span("brightness", brightness, -1, 9)
        contrast = check_span("contrast", contrast, -1, 9)
        saturation = check_span("saturation", saturation, -1, 9)
        hue = check_span("hue", hue, -0.5, 0.5)
        value_range = check_value_range(value_range)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.value_range = value_range

    def _check(self, batch):
        super()._check(batch)
        check_rgb(batch, self.data_format, type(self).__name__)
        check_has_value_range(self.value_range, self._dtype_of_pixels(batch.images, batch))

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Returns the change of each image for each argument, arrays (batch,)."""
        spans = [span_of(getattr(self, name)) for name in NAMES]
        drawn = [low + random.uniform[:, i] * (high - low) for i, (low, high) in enumerate(spans)]
        return dict(zip(NAMES, batch.computed_once(*drawn), strict=True))

    def transform_images(self, images: Tensor, changes: Any, batch: Any) -> Tensor:
        changes, axis = [changes[name] for name in NAMES], channel_axis(self.data_format)
        if not batch.place.is_host:
            return self._changed(images, *changes, axis=axis, ops=batch.ops)

        def change(images, *changes):
            # NumPy is fast along rows, and slow along three channels.
            planes = np.ascontiguousarray(np.moveaxis(images, axis, 1))
            return np.moveaxis(self._changed(planes, *changes, axis=1, ops=batch.ops), 1, axis)

        return applied_in_cache(change, images, np.zeros(len(images), bool), *changes)

    def _changed(self, images, *changes, axis, ops):
        dtype = dtype_of(images)
        wide, (low, high) = at_least_float32(dtype), map(float, self.value_range or (0, 255))
        values = (ops.cast(images, wide) - low) / (high - low)
        spread_out = (spread(ops.cast(change, wide), values, ops) for change in changes)
        factors = dict(zip(NAMES, spread_out, strict=True))
        changed = {name for name in NAMES if any(span_of(getattr(self, name)))}
        if "brightness" in changed:
            values = blended_within(values, 0.0, 1.0 + factors["brightness"], ops)
        if "contrast" in changed:
            values = blended_within(values, mean_gray(values, axis, ops), 1.0 + factors["contrast"], ops)
        if "saturation" in changed:
            values = blended_within(values, gray(values, axis), 1.0 + factors["saturation"], ops)
        if "hue" in changed:
            values = turned_hue(values, factors["hue"], axis, ops)
        return as_pixels(low + values * (high - low), dtype, ops)

    def get_config(self) -> Config:
        names = (*NAMES, "value_range")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
