import keras

from keras_reg.layers._composite import Composite, transform_part


@keras.saving.register_keras_serializable(package="keras_reg")
class Pipeline(Composite):
    """Applies layers in order: those of this package, and any image layer of Keras.

    The random numbers of all layers of this package come from one draw. In inference each layer does what it does in
    inference: nothing, or resizing.

    Args:
        layers: List of layers, or one layer. Keras' own `MixUp` and `CutMix` are refused: they do not know sample
            weights.
        seed: Integer of at least 0, from which all layers of this package draw. Where it is `None` the seeds of the
            layers count, if all have one. Layers of Keras draw from their own.
        data_format: "channels_last" or "channels_first"; Keras' setting where `None`.
        **kwargs: Further arguments of `keras.layers.Layer`, as `name` and `dtype`. Everything is computed in the dtype
            of this layer, whatever those of its layers are.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes".
        labels: Labels, as the layers take them.
        sample_weight: Weights of shape (batch,), or (batch, height, width), which go where the pixels go.
        training: `False` for inference. True unless said otherwise.
        index: Integer of at least 0, or a scalar integer tensor, that names the batch: what is drawn is then a function
            of `seed` and `index` alone.

    Input shape:
        Images (batch, height, width, channels), or (batch, channels, height, width) with "channels_first".

    Output shape:
        That of the last layer.

    Raises:
        ValueError: For no layers, things that are no layers, and whatever the layers refuse.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import CutMix, Pipeline, RandomErasing
    >>> layer = Pipeline([RandomErasing(rate=0.25), CutMix(num_classes=3)], seed=0)
    >>> images, labels = layer(np.ones((4, 8, 8, 3)), np.array([0, 1, 2, 0]))
    >>> tuple(labels.shape)
    (4, 3)
    """

    arguments = ("data_format", "seed")

    def transform(self, batch, u, key, select=None):
        for layer, numbers, part_key in self.parts(batch, u, key):
            batch = transform_part(layer, batch, numbers, part_key, select)
        return batch
