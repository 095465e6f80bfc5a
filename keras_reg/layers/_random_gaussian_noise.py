import dataclasses
from typing import Any

import keras
import numpy as np

from keras_reg._dtypes import at_least_float32, dtype_of, is_float
from keras_reg._renamed import renamed
from keras_reg._strength import plain, serialize
from keras_reg._typing import Config, Kind, Pair, StrengthLike
from keras_reg._validation import check_range, fail
from keras_reg.layers._batch._content import leaves, map_arrays
from keras_reg.layers._batch._fill_values import check_fill
from keras_reg.layers._batch._shapes import spread
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._in_cache import applied_in_cache
from keras_reg.layers._pixels._rounding import as_pixels
from keras_reg.layers._strength_weight import given

LEAST_OF_INTEGERS = 0.1  # smaller noise would be rounded to 0: it exceeds 1/2 once in two million pixels
SAMPLES = 3  # integers with at least this many axes are values; with fewer axes, they may be token ids


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomGaussianNoise(BatchAugmentation):
    """Adds noise from N(0, stddev^2) to random images, drawn independently for each pixel and channel.

    The expectation is the image itself, except where values are clipped. The layer accepts inputs of any shape, such as
    signals and tables. In inference, it is the identity.

    Args:
        stddev: Standard deviation of the noise in the units of the inputs, in [0, 1e30], or a `keras_reg.Strength`:
            0.01 for images in [0, 1] is 2.55 for images in [0, 255]. Integer inputs need at least 0.1, or 0.
        rate: Probability that a sample gets noise, in [0, 1], or a `keras_reg.Strength`.
        clip: Range (least, most) to which samples with noise are clipped. With `None`, floats are not clipped, and
            integers are clipped to the range of their dtype.
        kind: Kind of sample: "image", "video", "signal" or `None`. It is required without labels, if inputs with
            three axes may be signals (batch, time, channels) or one image.
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
        Inputs of any shape: features (batch, features), signals (batch, time, channels), images
        (batch, height, width, channels), videos (batch, time, height, width, channels). Several inputs, a nest of
        arrays, get noise of the same `stddev`. Integers of shape (batch, features) are refused, since they may be token
        ids.

    Output shape:
        The shape of the input. Integers stay integers, and their values are rounded.

    Raises:
        ValueError: For arguments out of range, a `stddev` that is too small for integers, integers with fewer than
            three axes, and a `clip` that the dtype of the inputs cannot hold.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomGaussianNoise
    >>> noise = np.asarray(RandomGaussianNoise(stddev=0.1, rate=1.0, seed=0)(np.zeros((8, 50, 50, 3))))
    >>> round(float(noise.std()), 2)
    0.1

    References:
        - [Training with Noise is Equivalent to Tikhonov Regularization](https://doi.org/10.1162/neco.1995.7.1.108)
          (Bishop, 1995).
    """

    keeps_integers = True

    _calls_hooks = False
    _has_layout = False
    _works_on_host = True
    _draws_pixels = True

    @renamed(sigma="stddev", std="stddev")
    def __init__(
        self,
        stddev: StrengthLike,
        rate: StrengthLike = 0.5,
        clip: Pair | None = None,
        kind: Kind = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        stddev = given("stddev", stddev)
        clip = None if clip is None else check_range("clip", clip)
        super().__init__(rate, kind, seed=seed, **kwargs)
        self.set_strength("stddev", stddev)
        self.clip = clip
        self.supports_masking = True  # each step stays at its position

    def _check_values(self, batch):
        for array in leaves(batch.images):
            dtype, shape = dtype_of(array), tuple(array.shape)
            if not is_float(array) and (dtype == "bool" or len(shape) < SAMPLES):
                fail(
                    "`data` must be floats, or integers with more than two axes. Other integers may be token ids.",
                    dtype=dtype,
                    shape=shape,
                )

    def _check(self, batch):
        for array in leaves(batch.images):
            dtype = self._dtype_of_pixels(array, batch)
            if self.clip is not None:
                check_fill("clip", self.clip, dtype)
            if not is_float(array) and 0 < plain(self.stddev) < LEAST_OF_INTEGERS:
                fail(
                    f"Integer images need a `stddev` of at least {LEAST_OF_INTEGERS}, in the units of their pixels: "
                    "smaller noise is rounded away.", stddev=self.stddev, dtype=dtype,
                )  # fmt: skip

    def _draw_noise(self, batch, key):
        """Draws a number for each number of the inputs, in float32, which `_with_noise` maps to N(0, 1)."""
        if self._is_plain("rate", 0) or self._is_plain("stddev", 0):
            return None
        keys = iter(range(len(leaves(batch.images))))

        def draw(array):
            return batch.place.draw_pixels(batch.place.fold(key, next(keys)), batch.ops.shape(array))

        return map_arrays(draw, batch.images)

    def _transform(self, batch, u, noise=None, select=None):
        if noise is None:
            return batch
        drawing, u, select = self._drawing(batch, u, select)
        if not self._is_plain("rate", 1) or select is not None:
            select = batch.place.sent(self._draw_selection(u, drawing, select))
        stddev = self.strength("stddev", batch)

        def noisy(array, numbers):
            return self._with_noise(array, numbers, stddev, select, batch)

        return dataclasses.replace(batch, images=map_arrays(noisy, batch.images, noise), fresh=False)

    def _with_noise(self, array, noise, stddev, select, batch):
        ops, dtype = batch.ops, dtype_of(array)
        wide = at_least_float32(dtype)
        clip = self.clip or (None if is_float(array) else (np.iinfo(dtype).min, np.iinfo(dtype).max))

        def noisy(array, noise, select=None):
            noise = ops.cast(batch.place.normal_pixels(noise), wide)
            values = ops.cast(array, wide) + ops.cast(stddev, wide) * noise
            values = values if clip is None else ops.clip(values, *map(float, clip))
            values = as_pixels(values, dtype, ops)
            return values if select is None else ops.where(spread(select, array, ops), values, array)

        given = (noise,) if select is None else (noise, select)
        if not batch.place.is_host:
            return noisy(array, *given)
        stays = np.zeros(len(array), bool) if select is None else ~select
        return applied_in_cache(noisy, array, stays, *given)

    def get_config(self) -> Config:
        return {**super().get_config(), "stddev": serialize(self.stddev), "clip": self.clip}
