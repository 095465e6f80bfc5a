import keras

from keras_reg._validation import check_choice, check_integer_or_pair, check_number, fail
from keras_reg.layers._augmentation import BatchAugmentation, check_fill, check_fill_of_maps, exact, selected
from keras_reg.layers._batch._boxes import FORMATS, check_boxes, crop_boxes
from keras_reg.layers._batch._forms import channels_first, dtype_of, height_width, static
from keras_reg.layers._batch._moving import check_moves
from keras_reg.layers._batch._terms import map_pixels
from keras_reg.layers._pixels import _on_host
from keras_reg.layers._strength_weight import given


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomPadCrop(BatchAugmentation):
    """Pads each image on all sides and crops it to its size again at a random place: a random shift.

    Both offsets are uniform over -padding to padding, in whole pixels, so that pixels are moved and never computed
    with. Masks, dense label maps and bounding boxes move along. In inference the layer is the identity.

    Args:
        padding: Pixels on each side: an integer from 0 to 2^20, or a pair (vertical, horizontal).
        rate: Probability that an image is shifted, in [0, 1], or a `keras_reg.Strength`.
        fill_mode: "constant", or "reflect", which mirrors the image without repeating its border.
        fill_value: Constant for "constant", a number that the dtype of the images can hold.
        mask_fill_value: Number that masks and label maps are padded with; their dtype must be able to hold it. They
            are reflected if the images are.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes are clipped; those that are cut off wholly get class -1.
        data_format: "channels_last" or "channels_first"; Keras' setting where `None`.
        seed: Integer of at least 0; one seed makes a run repeatable.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes".
        labels: Labels; not changed, except dense maps.
        sample_weight: Weights; not changed, except those of shape (batch, height, width), which move along. Pixels from
            outside the image weigh 0.
        training: `False` returns the data as they are. Defaults to `True`; inside a model, to the `training` argument
            of the model's call, or `False` if it has none.
        index: Integer of at least 0, or a scalar integer tensor: the number of the batch. The draw then depends only on
            `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), or (batch, channels, height, width) with "channels_first"; one image
        without the batch axis works too.

    Output shape:
        That of the input.

    Raises:
        ValueError: For arguments out of range, numbers that the dtype of the images or masks cannot hold, padding by
            reflection that is not smaller than the image, and entries with positions in the images that cannot be
            moved, such as `keypoints`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomPadCrop
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> np.asarray(RandomPadCrop(padding=0)(image)).tolist() == image.tolist()
    True

    References:
        - [Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385) (He et al., 2016), section
          4.2: padding 4 on CIFAR-10.
    """

    columns = 3
    strengths = ("rate",)
    arguments = (
        "padding", "fill_mode", "fill_value", "mask_fill_value", "bounding_box_format", "data_format", "seed",
    )  # fmt: skip

    def __init__(
        self, padding, rate=1.0, fill_mode="constant", fill_value=0.0, mask_fill_value=0, bounding_box_format="xyxy",
        data_format=None, seed=None, **kwargs,
    ):  # fmt: skip
        padding = check_integer_or_pair("padding", padding, low=0, high=2**20)  # all its offsets can be drawn
        rate = given("rate", rate, high=1)
        fill_mode = check_choice("fill_mode", fill_mode, ("constant", "reflect"))
        fill_value = check_number("fill_value", fill_value)
        mask_fill_value = check_number("mask_fill_value", mask_fill_value)
        bounding_box_format = check_choice("bounding_box_format", bounding_box_format, FORMATS)
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.hold(rate=rate)
        self.padding, self.fill_mode, self.fill_value = padding, fill_mode, fill_value
        self.mask_fill_value, self.bounding_box_format = mask_fill_value, bounding_box_format

    @property
    def paddings(self):
        """(vertical, horizontal)."""
        return tuple(self.padding) if isinstance(self.padding, (tuple, list)) else (self.padding, self.padding)

    def check(self, batch):
        if batch.boxes is not None:
            check_boxes(batch)
        check_moves(batch, self.data_format, type(self).__name__)
        if self.fill_mode == "constant":
            check_fill("fill_value", self.fill_value, self.dtype_of_pixels(batch))
            check_fill_of_maps(self.mask_fill_value, batch, self.data_format)
        axes = (-3, -2) if self.data_format == "channels_last" else (-2, -1)
        sizes = [static(batch.images, axis) for axis in axes]
        for size, padding in zip(sizes, self.paddings, strict=True):
            if self.fill_mode == "reflect" and size is not None and padding >= size:
                fail(f"Padding by reflection must be smaller than the image, {size} pixels.", padding=self.padding)

    def transform(self, batch, u, noise=None, select=None):
        ops = batch.ops
        chosen = selected(u[:, 0], self.strength("rate", batch), select)
        down, across = (
            ops.where(chosen, ops.minimum(ops.floor(u[:, i + 1] * (2 * p + 1)), 2.0 * p) - p, 0.0)
            for i, p in enumerate(self.paddings)
        )
        offsets = batch.settled(ops.cast(down, "int32"), ops.cast(across, "int32"))

        def filled_with(value):
            return lambda array: self._move(array, offsets, exact(value, dtype_of(array)), batch)

        if batch.boxes is not None:
            ones, size = ops.ones_like(down), height_width(batch.images, self.data_format, ops)
            still = (offsets[0] == 0) & (offsets[1] == 0)
            moves = (down, across, ones, ones, size)
            batch = crop_boxes(batch, *moves, self.bounding_box_format, self.data_format, still)
        fills = (self.fill_value, self.mask_fill_value, 0)  # pixels from outside count for nothing
        return map_pixels(batch, self.data_format, *map(filled_with, fills))

    def _move(self, array, offsets, fill, batch):
        ops = batch.ops
        first = channels_first(array, self.data_format)
        if batch.framework.on_host and self.fill_mode == "constant":
            return _on_host.moved(array, *offsets, fill, first)
        pixels = ops.transpose(array, (0, 2, 3, 1)) if first else array
        shape = ops.shape(pixels)
        rows, rows_in = self._indices(shape[1], offsets[0], ops)
        columns, columns_in = self._indices(shape[2], offsets[1], ops)
        moved = gather_pixels(pixels, rows, columns, ops)
        if self.fill_mode == "constant":
            within = ops.expand_dims(rows_in, 2) & ops.expand_dims(columns_in, 1)
            within = within if len(array.shape) == 3 else ops.expand_dims(within, -1)
            moved = ops.where(within, moved, ops.cast(fill, dtype_of(array)))
        return ops.transpose(moved, (0, 3, 1, 2)) if first else moved

    def _indices(self, size, offset, ops):
        """Where each new row (or column) comes from, (batch, size), and whether that lies in the image."""
        index = ops.expand_dims(ops.arange(0, size, dtype="int32"), 0) + ops.expand_dims(offset, 1)
        within = (index >= 0) & (index < size)
        if self.fill_mode == "reflect":
            index = ops.abs(index)
            index = size - 1 - ops.abs(size - 1 - index)
        return ops.minimum(ops.maximum(index, 0), size - 1), within


def gather_pixels(array, rows, columns, ops):
    """array[b, rows[b, i], columns[b, j]] for (batch, H, W) or (batch, H, W, C): one gather of whole pixels."""
    shape = ops.shape(array)
    starts = ops.reshape(ops.arange(0, shape[0], dtype="int32") * shape[1], [-1, 1, 1])
    index = (starts + ops.expand_dims(rows, 2)) * shape[2] + ops.expand_dims(columns, 1)
    # Not -1, which JAX cannot tell where there are no channels.
    found = ops.take(ops.reshape(array, (shape[0] * shape[1] * shape[2], *shape[3:])), index, axis=0)
    # JAX takes from an empty batch without a look at the shape of the index.
    return ops.reshape(found, (shape[0], ops.shape(rows)[1], ops.shape(columns)[1], *shape[3:]))
