from typing import Any, Literal

import keras

from keras_reg._typing import Config, DataFormat, Kind, StrengthLike
from keras_reg._validation import check_choice, fail
from keras_reg.layers._batch._boxes import FORMATS
from keras_reg.layers._batch_augmentation import selected
from keras_reg.layers._mover import Mover
from keras_reg.layers._pixels._moves import Move, Moves

MODES = ("horizontal", "vertical", "horizontal_and_vertical")


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomFlip(Mover):
    """Mirrors each image at random: left to right, top to bottom, or both.

    Each axis of each image is drawn independently. Pixels are moved, but their values are not changed. Masks, dense
    label maps, bounding boxes and keypoints are mirrored with their images. All frames of a video are mirrored alike,
    and a signal is reversed in time. In inference, the layer is the identity.

    Args:
        mode: "horizontal", which mirrors left and right, "vertical", which mirrors top and bottom, or
            "horizontal_and_vertical", which draws both independently. Signals require "horizontal".
        rate: Probability that an axis of an image is mirrored, in [0, 1], or a `keras_reg.Strength`.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes of mirrored images are clipped, and those outside the image get class -1.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, which are not changed, except dense maps.
        sample_weight: Weights, which are not changed, except those of shape (batch, height, width), which are mirrored
            with the images.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), videos (batch, time, height, width, channels), or with `kind="signal"`
        signals (batch, time, channels). With "channels_first", the channels are the second axis. A single sample
        without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers.

    Raises:
        ValueError: For arguments out of range, a vertical mode for signals, and entries with positions in the images
            that cannot be moved, such as `landmarks`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomFlip
    >>> image = np.arange(6).reshape(1, 2, 3, 1)
    >>> np.asarray(RandomFlip(rate=1.0)(image))[0, :, :, 0].tolist()
    [[2, 1, 0], [5, 4, 3]]

    References:
        - [ImageNet Classification with Deep Convolutional Neural Networks](
          https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks)
          (Krizhevsky et al., 2012), section 4.1.
    """

    uniform_numbers = 1  # in addition to that of the rate: one for each axis in any mode
    kinds = ("image", "video", "signal")

    _one_pass = True

    def __init__(
        self,
        mode: Literal["horizontal", "vertical", "horizontal_and_vertical"] = "horizontal",
        rate: StrengthLike = 0.5,
        bounding_box_format: str = "xyxy",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        mode = check_choice("mode", mode, MODES)
        bounding_box_format = check_choice("bounding_box_format", bounding_box_format, FORMATS)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.mode, self.bounding_box_format = mode, bounding_box_format

    def _check(self, batch):
        super()._check(batch)
        if batch.is_signal and self.mode != "horizontal":
            fail('Expected `mode="horizontal"` for signals, which are only reversed in time.', mode=self.mode)

    def _draw_selection(self, u, batch, select):
        """Returns which images are mirrored top to bottom, and left to right. `None` stands for no image."""
        rate = self.strength("rate", batch)
        across, down = (selected(u[:, axis], rate, select) for axis in (0, 1))
        if batch.is_signal:
            return across, None  # time is the axis of the rows
        return (None if self.mode == "horizontal" else down), (None if self.mode == "vertical" else across)

    def geometry(self, batch: Any, random: Any) -> Moves:
        """Returns which images are mirrored top to bottom, and left to right."""
        return Moves(*(Move(flip) for flip in random.selected))

    def get_config(self) -> Config:
        own = {"mode": self.mode, "bounding_box_format": self.bounding_box_format}
        return {**super().get_config(), **own}
