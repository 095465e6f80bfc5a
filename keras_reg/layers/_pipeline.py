from collections.abc import Sequence
from typing import Any

import keras

from keras_reg._typing import Config, DataFormat, Kind
from keras_reg._validation import check_flag
from keras_reg.layers._augmentation._parts import check_not_apart
from keras_reg.layers._composite import Composite
from keras_reg.layers._fused import fused

SEQUENCES = tuple(
    getattr(owner, name)
    for owner, name in ((keras, "Sequential"), (keras.layers, "Pipeline"))
    if hasattr(owner, name)  # older versions of Keras have no `keras.layers.Pipeline`
)


@keras.saving.register_keras_serializable(package="keras_reg")
class Pipeline(Composite):
    """Applies layers in order: layers of this package and image layers of Keras.

    A `keras.Sequential` or `keras.layers.Pipeline` is unpacked, so its layers also transform labels, masks and boxes.
    All layers of this package share one random draw per batch. In inference, each layer behaves as in inference: most
    are the identity, and some resize the images.

    Neighboring `RandomFlip`, `RandomAffine`, `RandomPadCrop` and `RandomResizedCrop` layers are fused: each image is
    moved or resampled once along the product of their maps. What a layer shifts out of the image is lost to the next
    one, as without fusing. Flips, shifts by whole pixels and quarter turns of square images have the same bits as
    without fusing. With one `RandomAffine` or `RandomResizedCrop` among them, pixels agree within rounding, and masks
    agree except at ties. Several `RandomAffine` layers give sharper images than without fusing. Boxes and keypoints are
    always the same.

    Args:
        layers: List of layers, one layer, or a `keras.Sequential`. Keras' own `MixUp` and `CutMix` are refused, since
            they do not mix sample weights.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        fuse: Whether to fuse layers. Layers are only fused if their fill values, interpolation and
            `bounding_box_format` agree, and layers with reflected or repeated borders only with `RandomFlip`.
            `RandomResizedCrop` is only fused with flips before it, and with flips and shifts after it.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0 that seeds all layers of this package. With `None`, the seeds of the layers are used
            if all layers have one. Keras layers use their own seeds.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`. All computations use the
            dtype of this layer. The dtypes of its layers are ignored.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, in a form that the layers accept.
        sample_weight: Weights of shape (batch,), or (batch, height, width), which move with the pixels.
        training: `False` for inference. Defaults to `True`. Inside a model, it defaults to the `training` argument of
            the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Inputs that all layers accept: any shape (batch, ...) for `MixUp` and `LabelNoise`; images
        (batch, height, width, channels), videos (batch, time, height, width, channels) and signals
        (batch, time, channels) for others. With "channels_first", the channels are the second axis.

    Output shape:
        The output shape of the last layer.

    Raises:
        ValueError: If `layers` is empty or contains other objects than layers, or if a layer refuses the data.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import CutMix, Pipeline, RandomErasing
    >>> layer = Pipeline([RandomErasing(rate=0.25), CutMix(num_classes=3)], seed=0)
    >>> images, labels = layer(np.ones((4, 8, 8, 3)), np.array([0, 1, 2, 0]))
    >>> tuple(labels.shape)
    (4, 3)
    """

    _has_rate = False

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        kind: Kind = None,
        fuse: bool = True,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_not_apart(layers, kind, "kind")
        fuse = check_flag("fuse", fuse)
        layers = [layers] if isinstance(layers, keras.layers.Layer) else layers
        if isinstance(layers, (list, tuple)):
            layers = [part for layer in layers for part in _unpacked(layer)]
        super().__init__(layers, kind, data_format, seed, **kwargs)
        self.fuse = fuse

    def _parts(self):
        return fused(self.layers, self._programs) if self.fuse else self.layers

    def _transform(self, batch, u, key, select=None):
        return self._in_turn(batch, u, key, lambda _: select)

    def get_config(self) -> Config:
        return {**super().get_config(), "fuse": self.fuse}


def _unpacked(layer):
    if not isinstance(layer, SEQUENCES):
        return [layer]
    return [part for inner in layer.layers for part in _unpacked(inner)]


def taken_apart(layer):
    """Converts a sequence of Keras, which only processes images, to a `Pipeline`. Other layers are unchanged."""
    if not isinstance(layer, SEQUENCES):
        return layer
    parts = _unpacked(layer)
    return parts[0] if len(parts) == 1 else Pipeline(parts)
