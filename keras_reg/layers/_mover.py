from typing import Any, NamedTuple

from keras_reg._dtypes import dtype_of
from keras_reg._typing import Boxes, Tensor
from keras_reg._validation import is_number
from keras_reg.layers._batch._boxes import moved_boxes
from keras_reg.layers._batch._fill_values import check_channels, check_fill, check_fill_of_maps, exact
from keras_reg.layers._batch._folding import over_frames
from keras_reg.layers._batch._keypoints import moved_keypoints
from keras_reg.layers._batch._shapes import height_width
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._chain import computed_once
from keras_reg.layers._pixels._kernels import kernels_for


class Outside(NamedTuple):
    """What is seen outside the images: a constant for images and one for masks, or the images themselves."""

    fill_mode: str = "constant"
    fill_value: Any = 0  # or one number per channel
    mask_fill: Any = 0


class MovesPixels:
    """The hooks that move everything by one map per image. `FusedMovers` has them, too."""

    outside: Outside | None = None  # `None` if nothing from outside is ever seen
    interpolation: str | None = None  # "bilinear" or "nearest"; `None` if only whole pixels move

    moves_pixels = True
    bounding_box_format: str
    data_format: str

    def transform_images(self, images: Tensor, geometry: Any, batch: Any) -> Tensor:
        fill = (self.outside or Outside()).fill_value
        if isinstance(fill, (tuple, list)):
            dtype = dtype_of(images)
            fill = batch.ops.convert_to_tensor(exact(fill, dtype), dtype=dtype)
            fill = over_frames(fill, batch, self.data_format)
        return self._moved(images, geometry, fill, batch, smooth=self.interpolation == "bilinear")

    def transform_segmentation_masks(self, segmentation_masks: Tensor, geometry: Any, batch: Any) -> Tensor:
        outside = self.outside or Outside()
        return self._moved(segmentation_masks, geometry, outside.mask_fill, batch)

    def transform_sample_weights(self, sample_weights: Tensor, geometry: Any, batch: Any) -> Tensor:
        return self._moved(sample_weights, geometry, 0, batch)  # pixels from outside the image have weight 0

    def transform_bounding_boxes(self, bounding_boxes: Boxes, geometry: Any, batch: Any) -> Boxes:
        size = height_width(batch.images, self.data_format, batch.ops)
        return moved_boxes(bounding_boxes, geometry, size, self.bounding_box_format, batch.ops)

    def transform_keypoints(self, keypoints: Tensor, geometry: Any, batch: Any) -> Tensor:
        return moved_keypoints(keypoints, geometry, height_width(batch.images, self.data_format, batch.ops), batch.ops)

    def _moved(self, array, geometry, fill, batch, smooth=False):
        fill, mode = exact(fill, dtype_of(array)) if is_number(fill) else fill, (self.outside or Outside()).fill_mode
        return geometry.move_pixels(kernels_for(batch, self.data_format), array, fill, mode, smooth)


class Mover(MovesPixels, BatchAugmentation):
    """Base class of layers that move pixels: `RandomFlip`, `RandomAffine`, `RandomPadCrop` and `RandomResizedCrop`.

    A subclass defines `geometry`, the map of each image: `Moves`, an `Affine` or a `Crop`. All hooks follow this map.
    A `Pipeline` joins the maps of neighboring layers.
    """

    keeps_integers = True

    _selects = True
    _makes_images = True
    _works_on_host = True

    def geometry(self, batch: Any, random: Any) -> Any:
        """Returns the map of each image that the random numbers describe."""
        raise NotImplementedError

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        return computed_once(self.geometry(batch, random), batch)

    def _check(self, batch):
        super()._check(batch)
        if self.outside is not None and self.outside.fill_mode == "constant":
            check_channels("fill_value", self.outside.fill_value, batch, self.data_format, type(self).__name__)
            check_fill("fill_value", self.outside.fill_value, self._dtype_of_pixels(batch.images, batch))
            check_fill_of_maps(self.outside.mask_fill, batch, self.data_format)
