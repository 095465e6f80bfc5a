from collections.abc import Sequence
from typing import Any, Literal

from keras_reg._dtypes import dtype_of
from keras_reg._typing import Boxes, Config, DataFormat, Kind, Pair, StrengthLike, Tensor
from keras_reg._validation import check_choice, check_integer, check_number
from keras_reg.layers._batch._boxes import FORMATS, moved_boxes
from keras_reg.layers._batch._fill_values import check_fill_of_maps, exact
from keras_reg.layers._batch._keypoints import moved_keypoints
from keras_reg.layers._batch._shapes import height_width
from keras_reg.layers._pixels._kernels import kernels_for
from keras_reg.layers._policies._drawn_operations import DrawnOperations
from keras_reg.layers._policies._magnitudes import check_operations


class Policy(DrawnOperations):
    """Base class of layers whose masks, boxes and keypoints follow the operations that move pixels."""

    def __init__(
        self,
        rate: StrengthLike,
        interpolation: Literal["nearest", "bilinear"],
        fill_value: float,
        value_range: Pair | None,
        mask_fill: float,
        bounding_box_format: str,
        kind: Kind,
        data_format: DataFormat,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        mask_fill = check_number("mask_fill", mask_fill)
        bounding_box_format = check_choice("bounding_box_format", bounding_box_format, FORMATS)
        super().__init__(rate, interpolation, fill_value, value_range, kind, data_format, seed, **kwargs)
        self.mask_fill, self.bounding_box_format = mask_fill, bounding_box_format

    def _check(self, batch):
        super()._check(batch)
        check_fill_of_maps(self.mask_fill, batch, self.data_format)

    def transform_segmentation_masks(self, segmentation_masks: Tensor, steps: Any, batch: Any) -> Tensor:
        return self._warped(segmentation_masks, steps, self.mask_fill, batch)

    def transform_sample_weights(self, sample_weights: Tensor, steps: Any, batch: Any) -> Tensor:
        return self._warped(sample_weights, steps, 0, batch)  # pixels from outside the image have weight 0

    def _warped(self, array, steps, fill, batch):
        kernels, fill = kernels_for(batch, self.data_format), exact(fill, dtype_of(array))
        for affine in steps.affines():
            array = kernels.warp(array, affine, fill, "constant", False)
        return array

    def transform_bounding_boxes(self, bounding_boxes: Boxes, steps: Any, batch: Any) -> Boxes:
        size = height_width(batch.images, self.data_format, batch.ops)
        for affine in steps.affines():
            bounding_boxes = moved_boxes(bounding_boxes, affine, size, self.bounding_box_format, batch.ops)
        return bounding_boxes

    def transform_keypoints(self, keypoints: Tensor, steps: Any, batch: Any) -> Tensor:
        size = height_width(batch.images, self.data_format, batch.ops)
        for affine in steps.affines():
            keypoints = moved_keypoints(keypoints, affine, size, batch.ops)
        return keypoints

    def get_config(self) -> Config:
        names = ("mask_fill", "bounding_box_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class UniformPolicy(Policy):
    """Base class of policies that draw operations with equal probabilities from a list.

    Args:
        num_magnitude_bins: Number of magnitudes into which the ranges are divided.
        operations: Names of operations, or `None`.
        *args: Arguments of `Policy`.
        **kwargs: Arguments of `Policy`.
    """

    def __init__(self, num_magnitude_bins: int, operations: Sequence[str] | None, *args: Any, **kwargs: Any) -> None:
        num_magnitude_bins = check_integer("num_magnitude_bins", num_magnitude_bins, low=2)
        operations = check_operations(operations)
        super().__init__(*args, **kwargs)
        self.num_magnitude_bins, self.operations = num_magnitude_bins, operations

    @property
    def _bins(self):
        return self.num_magnitude_bins

    def get_config(self) -> Config:
        names = ("num_magnitude_bins", "operations")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
