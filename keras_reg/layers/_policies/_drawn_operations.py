from typing import Any, Literal

from keras_reg._dtypes import dtype_of
from keras_reg._typing import Config, DataFormat, Kind, Pair, StrengthLike, Tensor
from keras_reg._validation import check_choice, check_number, fail
from keras_reg.layers._batch._fill_values import check_fill, check_has_value_range, check_value_range
from keras_reg.layers._batch._shapes import height_width, number_of_channels
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._policies._magnitudes import ALWAYS, MOVING, magnitudes, signs_of
from keras_reg.layers._policies._operations import COSTLY, Operations, are_whole
from keras_reg.layers._policies._steps import arrays_of_steps, branches_of, index_of, make_steps


class DrawnOperations(BatchAugmentation):
    """Base class of layers that change images by a sequence of operations, which are drawn per image.

    A subclass sets `space` and `_bins`, the number of magnitudes, and defines `_draw`. Its `operations` are the names
    to draw from, or `None` for all but "invert".
    """

    keeps_integers = True
    kinds = ("image", "video")

    _has_range = True
    _selects = True
    _makes_images = True
    _works_on_host = True
    _branches = True

    def __init__(
        self,
        rate: StrengthLike,
        interpolation: Literal["nearest", "bilinear"],
        fill_value: float,
        value_range: Pair | None,
        kind: Kind,
        data_format: DataFormat,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        interpolation = check_choice("interpolation", interpolation, ("nearest", "bilinear"))
        fill_value = check_number("fill_value", fill_value)
        value_range = check_value_range(value_range)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.interpolation, self.fill_value, self.value_range = interpolation, fill_value, value_range

    @property
    def moves_pixels(self) -> bool:  # type: ignore[override]
        """Whether any of the operations moves pixels."""
        return any(name in MOVING for name in self._names)

    @property
    def _choices(self):
        """The operations to draw from."""
        return tuple(self.operations or ALWAYS)

    @property
    def _names(self):
        """The operations that an image may have. "identity" is among them, if need be at the end."""
        return self._choices if "identity" in self._choices else (*self._choices, "identity")

    def _operation(self, u, ops):
        """Returns the index in `_names` of an operation that is drawn with equal probabilities."""
        return index_of(u, len(self._choices), ops)

    def _draw(self, u, ops):
        """Returns what uniform numbers (batch, uniform_numbers) stand for, three arrays (batch, steps).

        They are the index in `_names`, the index of the magnitude, both int32, and whether its sign is negative.
        """
        raise NotImplementedError

    def _check(self, batch):
        super()._check(batch)
        name = type(self).__name__
        if number_of_channels(batch, self.data_format, name) not in (None, 1, 3):
            fail(f"`{name}` expects images with 1 or 3 channels.", shape=tuple(batch.images.shape))
        dtype = self._dtype_of_pixels(batch.images, batch)
        check_has_value_range(self.value_range, dtype)
        check_fill("fill_value", self.fill_value, dtype)

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Returns the `Steps` of each image. An image that is not selected has "identity" in all steps."""
        return make_steps(self._arrays_of_steps(batch, random.uniform, random.selected), batch.place)

    def _arrays_of_steps(self, batch, u, selected):
        """Returns the index of the branch, the strength and the entries of the `Affine`, each (batch, steps)."""
        ops, names, size = batch.ops, self._names, height_width(batch.images, self.data_format, batch.ops)
        operation, level, negative = self._draw(u, ops)
        operation = ops.where(ops.expand_dims(selected, 1), operation, names.index("identity"))
        whole = are_whole(dtype_of(batch.images), self.value_range)
        table = magnitudes(names, self.space, self._bins, size, whole, ops)
        magnitude = ops.take(table, operation * self._bins + level, axis=0)
        negative = negative & ops.take(ops.convert_to_tensor(signs_of(names)), operation, axis=0)
        arrays = arrays_of_steps(operation, ops.where(negative, -magnitude, magnitude), names, size, ops)
        return batch.computed_once(*arrays)

    def transform_images(self, images: Tensor, steps: Any, batch: Any) -> Tensor:
        return self._changed(images, steps, batch)

    def _changed(self, images, steps, batch):
        """Returns the images after these steps."""
        smooth = self.interpolation == "bilinear"
        operations = Operations(
            batch.place, self.data_format, self.value_range, self.fill_value, smooth, dtype_of(images), batch.frames
        )
        names = branches_of(self._names)
        costly = [number for number, name in enumerate(names) if name in COSTLY]
        return batch.place.switch(steps.routes, operations.branches(names), images, costly)

    def get_config(self) -> Config:
        names = ("interpolation", "fill_value", "value_range")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
