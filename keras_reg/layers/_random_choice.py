from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_reg._renamed import renamed
from keras_reg._typing import Config, DataFormat, Kind
from keras_reg._validation import check_choice, fail, is_number, native
from keras_reg.layers._augmentation._parts import check_not_apart, spec_after
from keras_reg.layers._batch._terms import check_same_size
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._composite import Composite
from keras_reg.layers._mixer import Mixer, mixed_spec
from keras_reg.layers._pipeline import taken_apart
from keras_reg.layers._pixels._inside import mix_here_or_inside
from keras_reg.layers._pixels._mixing import COLUMNS, make_plan


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomChoice(Composite):
    """Applies one of several layers, which is drawn per batch or, for mixers, per sample.

    A choice among mixers costs no more than one of them, since blending and cutting are one operation with one partner
    and one label weight per sample. Other layers are all computed, and only the result of the drawn layer is used. In
    inference, the layer is the identity.

    Args:
        layers: List of layers, or one layer, that keep the size of the images. A `keras.Sequential` in the list
            becomes a `Pipeline`.
        probabilities: Probability of each layer, at least 0 and not all 0. They are divided by their sum. With `None`,
            all layers have the same probability.
        mode: "batch" draws a layer per batch. "sample" draws one per sample, if all layers are `MixUp` or `CutMix`.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0 that seeds all layers of this package. With `None`, the seeds of the layers are used
            if all layers have one.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`. All computations use the
            dtype of this layer. The dtypes of its layers are ignored.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, in a form that the layers accept.
        sample_weight: Weights of shape (batch,), or (batch, height, width), which move with the pixels.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Inputs that all layers accept: any shape (batch, ...) for `MixUp` and `LabelNoise`; images
        (batch, height, width, channels), videos (batch, time, height, width, channels) and signals
        (batch, time, channels) for others. With "channels_first", the channels are the second axis.

    Output shape:
        The shape of the input. Integer labels become one-hot if one of the layers is a mixer.

    Raises:
        ValueError: For invalid probabilities, mode "sample" with a layer that is not a mixer, mixers that differ in
            `num_classes`, and data that the layers refuse.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import CutMix, MixUp, RandomChoice
    >>> layer = RandomChoice([MixUp(0.2), CutMix(1.0)], mode="sample", seed=0)
    >>> images, labels = layer(np.ones((4, 8, 8, 3)), np.eye(4))
    >>> bool(np.allclose(np.asarray(labels).sum(-1), 1))
    True

    References:
        - [How to train your ViT?](https://arxiv.org/abs/2106.10270) (Steiner et al., 2022) and the recipes of timm
          choose between MixUp and CutMix per batch.
    """

    _has_rate = False
    _own_columns = 1

    @renamed(weights="probabilities")
    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        probabilities: Sequence[float] | None = None,
        mode: Literal["sample", "batch"] = "batch",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_not_apart(layers, probabilities, "probabilities")
        mode = check_choice("mode", mode, ("batch", "sample"))
        layers = [taken_apart(layer) for layer in layers] if isinstance(layers, (list, tuple)) else layers
        super().__init__(layers, kind, data_format, seed, **kwargs)
        self.probabilities, self.mode = self._check_probabilities(probabilities), mode
        if mode == "sample" and not self.fused:
            names = [type(layer).__name__ for layer in self.layers]
            fail('Mode "sample" requires that all layers are mixers (`MixUp`, `CutMix`).', layers=names)
        classes = {layer.num_classes for layer in self.layers if isinstance(layer, Mixer)}
        if len(classes) > 1:
            fail("All mixers in `layers` must have the same `num_classes`.", num_classes=sorted(classes, key=str))

    @property
    def fused(self) -> bool:
        return all(isinstance(layer, Mixer) for layer in self.layers)

    @property
    def _folds(self):
        return self.fused and not self._any_rank

    @property
    def num_classes(self) -> int | None:
        return next((layer.num_classes for layer in self.layers if isinstance(layer, Mixer)), None)

    def _check_probabilities(self, probabilities):
        probabilities = native(probabilities)
        if probabilities is None:
            return None
        right = isinstance(probabilities, (list, tuple)) and len(probabilities) == len(self.layers)
        if not right or not all(is_number(p) and p >= 0 for p in probabilities) or not any(probabilities):
            fail(
                f"`probabilities` must be {len(self.layers)} numbers of at least 0, not all 0.",
                probabilities=probabilities,
            )
        return probabilities

    @property
    def _columns(self):
        return self._own_columns + COLUMNS if self.fused else super()._columns

    def _is_one_program(self):
        return self.fused or super()._is_one_program()

    def draw(self, batch: Any, u: Any) -> Any:
        """Draws the index of the layer for each sample, (batch,) or (1,), as a float."""
        ops = batch.ops
        weights = np.asarray([1.0] * len(self.layers) if self.probabilities is None else self.probabilities)
        weights = weights / np.max(weights)  # so that the sum does not overflow
        u = u[:, 0] if self.mode == "sample" else u[:1, 0]
        which = ops.zeros_like(u)
        for bound in (np.cumsum(weights) / np.sum(weights))[:-1]:
            which = which + ops.cast(u >= float(bound), "float32")
        return which

    def _transform(self, batch, u, key, select=None):
        drawing, u, select = self._drawing(batch, u, select)
        which = self.draw(drawing, u)
        if self.fused:
            return self._mix(batch, drawing, u[:, 1:], which, select)

        def selected_for(i):
            chosen = (which == float(i)) & (u[:, 0] >= 0)  # (1,) is broadcast over the batch
            return chosen if select is None else chosen & select

        return self._in_turn(batch, u, key, selected_for)

    def _mix(self, batch, drawing, u, which, select):
        """Applies all mixers at once: the same random numbers, one plan, and one pass over the pixels."""
        ops = drawing.ops
        chosen, kept = self.layers[0].draw(drawing, u, select)
        cut = (which >= 0) & self.layers[0].cuts
        for i, layer in enumerate(self.layers[1:], 1):
            here = which == float(i)
            also_chosen, also_kept = layer.draw(drawing, u, select)
            chosen, kept = ops.where(here, also_chosen, chosen), ops.where(here, also_kept, kept)
            cut = ops.where(here, layer.cuts, cut)
        kinds = {layer.cuts for layer in self.layers}
        cut = cut if len(kinds) == 2 else kinds.pop()

        def plan_for(size):
            return batch.place.sent(make_plan(drawing, u, chosen, kept, cut, self.data_format, size))

        return mix_here_or_inside(batch, u, plan_for, self)

    def _inference(self, batch):
        return self._cast_images(batch)

    def _inference_spec(self, batch):
        return self._cast_spec(batch)

    def _check_inference(self, batch):
        """Accepts every batch, since inference does not change it."""

    def _check(self, batch):
        batch = self._cast_spec(batch)
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation):
                layer._check_as_images(batch)
            if not self.fused:
                check_same_size(batch.images, spec_after(layer, batch).images)

    def _output_spec(self, batch):
        if self.fused:
            return mixed_spec(self._cast_spec(batch), batch, self)
        return super()._output_spec(batch)

    def get_config(self) -> Config:
        return {**super().get_config(), "probabilities": self.probabilities, "mode": self.mode}
