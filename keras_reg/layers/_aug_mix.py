import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg._typing import Config, DataFormat, Kind, Pair, StrengthLike, Tensor
from keras_reg._validation import check_integer, check_number, fail
from keras_reg.layers._batch._shapes import spread
from keras_reg.layers._pixels._dirichlet import dirichlet
from keras_reg.layers._pixels._rounding import as_pixels
from keras_reg.layers._policies._drawn_operations import DrawnOperations
from keras_reg.layers._policies._magnitudes import ALWAYS, MIXED, check_operations
from keras_reg.layers._policies._steps import index_of, make_steps

LONGEST = 3  # operations of a chain whose length is drawn
SMALL = 2**23  # the numbers of a batch up to which starting operations takes longer than running them


@keras.saving.register_keras_serializable(package="keras_reg")
class AugMix(DrawnOperations):
    """Mixes each image with several augmented copies of itself.

    For each image, `width` chains of operations and the weights of their results are drawn. The weighted mean of the
    results is then mixed with the image itself. All pixels stay in `value_range`. All frames of a video change alike.
    The operations and magnitudes are those of torchvision. In inference, the layer is the identity.

    Args:
        severity: Strength of the operations, an integer from 1 to 10. The level of each magnitude is an integer from
            0 to 9, and is drawn from 0 to `severity - 1`.
        width: Number of chains, an integer of at least 1.
        depth: Number of operations in a chain, an integer of at least 1, or -1 to draw it from 1 to 3 for each chain.
        alpha: Parameter of the Dirichlet distribution of the weights of the chains, and of the Beta distribution of the
            weight of the image itself, a number in [0.01, 1e4]. A small value often chooses one of them.
        operations: The operations to draw from, a list of names as in `RandAugment`. `None` means all of them
            except "identity" and "invert".
        rate: Probability that an image is changed, in [0, 1], or a `keras_reg.Strength`.
        interpolation: "nearest" or "bilinear", for operations that move pixels.
        fill_value: Value of pixels from outside the image, a number that the dtype of the images can hold.
        value_range: Range (black, white) of the pixels. With `None`, it is (0, 255), which only `uint8` images accept.
        kind: Kind of sample: "image", "video", or `None`, which treats inputs with four axes as images and inputs with
            five axes as videos.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels" and "sample_weights".
        labels: Labels, which are not changed. Dense maps are refused.
        sample_weight: Weights of shape (batch,), which are not changed.
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
            are not `uint8` without a `value_range`, and masks, dense maps, boxes and keypoints if an operation moves
            pixels, since a mixed image then shows each object at several positions.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import AugMix
    >>> black = np.zeros((4, 8, 8, 3), "uint8")
    >>> np.asarray(AugMix(operations=["rotate", "equalize"])(black)).max().item()
    0

    References:
        - [AugMix](https://arxiv.org/abs/1912.02781) (Hendrycks et al., 2020). As in torchvision, all operations are
          used; the paper leaves out brightness, color, contrast and sharpness, which are in its test data.
    """

    space = MIXED
    _cannot_move = (
        "A mixed image shows each object at several positions. Use `RandAugment`, or `operations` that leave every "
        'pixel at its position, such as "solarize".'
    )

    _bins = 10
    _makes_images = True

    def __init__(
        self,
        severity: int = 3,
        width: int = 3,
        depth: int = -1,
        alpha: float = 1.0,
        operations: Sequence[str] | None = None,
        rate: StrengthLike = 1.0,
        interpolation: Literal["nearest", "bilinear"] = "bilinear",
        fill_value: float = 0,
        value_range: Pair | None = None,
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        severity = check_integer("severity", severity, low=1, high=10)
        width = check_integer("width", width, low=1)
        depth = check_integer("depth", depth, low=-1)
        if depth == 0:
            fail("`depth` must be at least 1, or -1 to draw it.", depth=depth)
        alpha = check_number("alpha", alpha, 0.01, 1e4)
        operations = check_operations(operations)
        super().__init__(rate, interpolation, fill_value, value_range, kind, data_format, seed, **kwargs)
        self.severity, self.width, self.depth, self.alpha = severity, width, depth, alpha
        self.operations = operations

    @property
    def _choices(self):
        return tuple(self.operations or ALWAYS[1:])

    @property
    def _longest(self):
        return LONGEST if self.depth == -1 else self.depth

    @property
    def uniform_numbers(self) -> int:  # type: ignore[override]
        return 2 + self.width * (2 + 3 * self._longest)

    def _draw(self, u, ops):
        """Returns the steps of all chains, one chain after another. Beyond its depth, a chain has "identity"."""
        count = self.width * self._longest
        lengths, which, level, sign = (
            u[:, start : start + n] for start, n in ((3 * count, self.width), *((i * count, count) for i in range(3)))
        )
        operation = self._operation(which, ops)
        if self.depth == -1:
            step = ops.convert_to_tensor(np.tile(np.arange(self._longest, dtype="int32"), self.width)[None])
            last = ops.repeat(index_of(lengths, self._longest, ops), self._longest, axis=1)
            operation = ops.where(step <= last, operation, self._names.index("identity"))
        return operation, index_of(level, self.severity, ops), sign < 0.5

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Returns the weights of the image and of its chains, (batch, width + 1), and the steps of each chain."""
        ops, u, chains = batch.ops, random.uniform, 2 + self.width
        own = dirichlet(u[:, :2], self.alpha, ops)
        others = dirichlet(u[:, 2:chains], self.alpha, ops)
        (weights,) = batch.computed_once(ops.concatenate([own[:, :1], own[:, 1:] * others], axis=1))
        arrays, longest = self._arrays_of_steps(batch, u[:, chains:], random.selected), self._longest
        parts = [[array[:, i * longest : (i + 1) * longest] for array in arrays] for i in range(self.width)]
        if self._runs_together(batch):
            parts = [[ops.concatenate(entries, axis=0) for entries in zip(*parts, strict=True)]]
        return weights, [make_steps(part, batch.place) for part in parts], random.selected

    def _runs_together(self, batch):
        """Whether all chains run at once, on copies of the images. It takes fewer operations, but more memory."""
        return batch.place.starts_slowly and math.prod(batch.ops.shape(batch.images)) <= SMALL

    def transform_images(self, images: Tensor, drawn: Any, batch: Any) -> Tensor:
        return batch.place.in_parts(functools.partial(self._blended, batch), images, *drawn)

    def _blended(self, batch, images, weights, chains, selected):
        ops, wide = batch.ops, at_least_float32(dtype_of(images))

        def part(array, column):
            return spread(ops.cast(weights[:, column], wide), array, ops) * ops.cast(array, wide)

        mixed = part(images, 0)
        for number, changed in enumerate(self._changed_by(chains, images, batch), 1):
            mixed = mixed + part(changed, number)
        return ops.where(spread(selected, images, ops), as_pixels(mixed, dtype_of(images), ops), images)

    def _changed_by(self, chains, images, batch):
        """Yields the images after each chain."""
        ops, size = batch.ops, batch.size()
        if len(chains) == self.width:
            yield from (self._changed(images, steps, batch) for steps in chains)
            return
        changed = self._changed(ops.concatenate([images] * self.width, axis=0), chains[0], batch)
        yield from (changed[i * size : (i + 1) * size] for i in range(self.width))

    def get_config(self) -> Config:
        names = ("severity", "width", "depth", "alpha", "operations")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
