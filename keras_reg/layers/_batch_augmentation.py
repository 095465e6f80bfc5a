from typing import Any, Self

import keras

from keras_reg._backend import Programs
from keras_reg._random_state import KeepsPosition
from keras_reg._renamed import refuse_renamed
from keras_reg._strength import deserialize, serialize
from keras_reg._typing import Boxes, Config, DataFormat, Kind, Shape, StrengthLike, Tensor, Tensors
from keras_reg._validation import check_choice, check_data_format, check_seed, fail
from keras_reg.layers._augmentation._call import AugmentationCall
from keras_reg.layers._augmentation._folding import AugmentationFolding
from keras_reg.layers._augmentation._hooks import RandomNumbers, apply_hooks, check_hooks, check_hooks_of_class
from keras_reg.layers._augmentation._run import AugmentationRun, own_attributes
from keras_reg.layers._augmentation._specs import AugmentationSpecs
from keras_reg.layers._batch._content import map_arrays
from keras_reg.layers._batch._kinds import KINDS, check_kinds
from keras_reg.layers._batch._shapes import channels_first
from keras_reg.layers._strength_weight import HoldsStrengths

NAMES_OF_RATE = dict.fromkeys(("p", "prob", "probability"), "rate")  # in other libraries


@keras.saving.register_keras_serializable(package="keras_reg")
class BatchAugmentation(
    AugmentationCall,
    AugmentationFolding,
    AugmentationSpecs,
    AugmentationRun,
    HoldsStrengths,
    KeepsPosition,
    keras.layers.Layer,
):
    """Base class of batch augmentations, for the layers of this package and for your own.

    A subclass implements `get_random_transformation`, which converts random numbers to the parameters of a batch, and
    one hook for each part that it changes: `transform_images`, `transform_labels`, `transform_segmentation_masks`,
    `transform_bounding_boxes`, `transform_keypoints`, `transform_sample_weights`. All hooks are pure functions. They
    must compute with `batch.ops`, which has a part of the operations of `keras.ops`. In a `tf.data` graph with the JAX
    or PyTorch backend, and in data-loading workers, the arrays do not belong to the backend, so `keras.ops` fails.

    A call returns tensors of the backend, with two exceptions. Tensors of another framework are returned as tensors of
    that framework. In worker processes, and in all threads except the main thread, NumPy arrays are returned as NumPy
    arrays, as data loaders need; pass a tensor of the backend to get a tensor back.

    The base class supports all call forms, `tf.data`, workers, the training step, `Pipeline`, `RandomChoice`,
    `RandomApply`, seeds, `index`, the rate per image, `Strength` arguments and dtypes. In inference, the layer is the
    identity.

    Attributes that a subclass may set:

    - `uniform_numbers`, `normal_numbers`: number of random numbers per sample, 0 by default.
    - `kinds`: the kinds of samples that the layer accepts, of "image" (the default), "video" and "signal". Hooks always
      see images: a video as an image with the channels of all frames, a signal as an image of width 1.
    - `keeps_integers`: whether integer images stay integers. By default, they become floats of the compute dtype, also
      in inference.
    - `moves_pixels`: `False` if every pixel stays at its position, so masks, boxes and keypoints need no hook. By
      default, a layer with `transform_images` refuses those for which it has no hook.
    - `changes_labels_of_metrics`: `False` if metrics in `keras_reg.training.RegularizedModel` should use the labels
      before `transform_labels`.

    Args:
        rate: Probability that the layer is applied to an image, in [0, 1], or a `keras_reg.Strength`.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels.
        sample_weight: Weights of shape (batch,), or (batch, height, width).
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), or (batch, channels, height, width) with "channels_first".
        A single image without the batch axis is accepted. `kinds` may add videos and signals. A layer without
        `transform_images` accepts inputs of any shape and number.

    Output shape:
        The shape of the input, or the shape that `compute_image_shape` returns.

    Raises:
        ValueError: For arguments out of range, a hook that changes a shape or dtype, and masks, label maps, boxes or
            keypoints without a hook that moves them with the pixels.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import BatchAugmentation
    >>> class Inverts(BatchAugmentation):
    ...     moves_pixels = False
    ...     transform_images = lambda self, images, transformation, batch: 1 - images
    >>> float(np.asarray(Inverts(rate=1.0)(np.zeros((2, 4, 4, 3)))).mean())
    1.0
    """

    uniform_numbers = 0
    normal_numbers = 0
    keeps_integers = False
    moves_pixels = True
    changes_labels_of_metrics = True

    kinds: tuple[str, ...] = ("image",)

    _has_rate = True
    _cannot_move = ""  # why masks, boxes and keypoints cannot follow, if no hook can move them
    _mixes = False  # whether the result for an image depends on other images
    _calls_hooks = True  # whether `_transform` calls the hooks of a subclass
    _has_layout = True  # whether the position of the channel axis matters
    _has_range = False  # whether it computes with the range of the pixels, `value_range`
    _selects = False  # whether the parameters already leave unselected samples unchanged
    _one_pass = False  # whether a new pixel needs about one old pixel, so that a compiler should fuse such neighbors
    _makes_images = False  # whether `transform_images` returns new memory that nothing else uses

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "transform_images" in vars(cls) and "_makes_images" not in vars(cls):
            cls._makes_images = False  # the class may return its input

    def __init__(
        self,
        rate: StrengthLike = 1.0,
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if self._has_rate:
            refuse_renamed(kwargs, NAMES_OF_RATE)
        own = own_attributes(self)
        seed, data_format = check_seed(seed), check_data_format(data_format)
        kind = check_choice("kind", kind, KINDS)
        check_kinds(self.kinds)
        if type(self) is not BatchAugmentation:
            check_hooks_of_class(self)
        super().__init__(autocast=False, **kwargs)
        self.kind = kind
        self._set_seed(seed)
        self.data_format = data_format or keras.config.image_data_format()
        if self._has_rate:
            self.set_strength("rate", rate, high=1)
        self._knows_layout = self._knows_range = False
        self._programs = Programs()
        self.built = type(self).build is keras.layers.Layer.build  # a subclass may have weights to add
        self._not_arguments = frozenset(name for name in (*vars(self), "_not_arguments") if name.startswith("_")) - own

    # Hooks.

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Draws the parameters of a batch.

        Args:
            batch: The batch, read-only: `images`, `labels`, `masks`, `boxes`, `keypoints`, `ops` and `size()`.
            random: Random numbers: `random.uniform` in [0, 1) of shape (batch, uniform_numbers), and `random.normal`
                from N(0, 1) of shape (batch, normal_numbers).

        Returns:
            Any object, which the other hooks receive as `transformation`. Arrays have one entry per sample.
        """

    def transform_images(self, images: Tensor, transformation: Any, batch: Any) -> Tensor:
        """Returns the transformed images, in the shape that `data_format` defines."""
        return images

    def transform_labels(self, labels: Tensors, transformation: Any, batch: Any) -> Tensor:
        """Returns one transformed array of labels: integer ids (batch,) or (batch, 1), or floats (batch, classes).

        It is called once per output. In a training step, it is called for both labels of a mixed sample. Dense maps,
        with one label per pixel, are passed to `transform_segmentation_masks`.
        """
        return labels

    def transform_segmentation_masks(self, segmentation_masks: Tensor, transformation: Any, batch: Any) -> Tensor:
        """Returns transformed masks or dense label maps: (batch, height, width), or with channels like the images."""
        return segmentation_masks

    def transform_bounding_boxes(self, bounding_boxes: Boxes, transformation: Any, batch: Any) -> Boxes:
        """Returns the transformed dict of "boxes" (batch, n, 4) and "classes" or "labels" (batch, n)."""
        return bounding_boxes

    def transform_keypoints(self, keypoints: Tensor, transformation: Any, batch: Any) -> Tensor:
        """Returns the transformed points (batch, n, 2) as (x, y), with the centers of pixels at whole numbers."""
        return keypoints

    def transform_sample_weights(self, sample_weights: Tensor, transformation: Any, batch: Any) -> Tensor:
        """Returns the transformed weights of pixels. Without this hook, they are moved like masks."""
        return sample_weights

    def compute_image_shape(self, image_shape: Shape) -> Shape:
        """Returns the shape of the resulting images, if their size changes. The rate must then be 1."""
        return image_shape

    # The base class.

    def spatial_axes(self, array: Tensor) -> tuple[int, int]:
        """Returns the axes of rows and columns of a batch of images, masks or pixel weights: (1, 2) or (2, 3)."""
        return (2, 3) if channels_first(array, self.data_format) else (1, 2)

    def _overrides(self, hook):
        """Whether a subclass overrides this hook."""
        return getattr(type(self), hook) is not getattr(BatchAugmentation, hook)

    def strength(self, name: str, batch: Any) -> Any:
        """Returns the current value of an argument: a number, or the value of the weight of a `Strength`."""
        value = self._value_or_weight(name)
        if not isinstance(value, keras.Variable):
            return value
        return batch.strengths[id(value)] if id(value) in batch.strengths else batch.place.read(value)

    @property
    def _columns(self):
        """The number of uniform numbers per sample: one for the rate, and those of the subclass."""
        return self.uniform_numbers + self._has_rate

    def _draw_selection(self, u, batch, select):
        """Returns which samples this layer is applied to, of those that `select` selects, (batch,)."""
        return selected(u[:, 0], self.strength("rate", batch), select)

    def _transform(self, batch, u, noise=None, select=None):
        """Transforms a batch with the given random numbers. It is a pure function."""
        drawing, u, select = self._drawing(batch, u, select)
        random = self._drawn(drawing, u, noise, select)
        if random is None:
            return batch
        transformation = self.get_random_transformation(drawing, random)
        found = batch.place.sent((transformation, None if self._selects else random.selected))
        return apply_hooks(self, batch, *found)

    def _drawn(self, batch, u, noise=None, select=None):
        """Returns the `RandomNumbers` for the hooks, or `None` if the layer is applied to no image."""
        if self._has_rate:
            if self._is_plain("rate", 0):
                return None
            if self._selects or not self._is_plain("rate", 1):
                select = self._draw_selection(u, batch, select)
            u = u[:, 1:]
        return RandomNumbers(u, noise, select)

    def _changes(self, labels):
        """Returns a nest like the labels that tells for each array whether `transform_labels` is called on it."""
        return map_arrays(lambda _: True, labels)

    def _for_labels(self, changes, transformation, selected):
        """Returns the transformation and the selection for an array of labels, of which `_changes` says `changes`."""
        return transformation, selected

    def _check(self, batch):
        """Refuses images that this layer cannot process correctly, and entries that it cannot move with them."""
        check_hooks(self, batch)

    def get_config(self) -> Config:
        rate = {"rate": serialize(self.rate)} if self._has_rate else {}
        own = {"kind": self.kind, "data_format": self.data_format, "seed": self.seed}
        return {**super().get_config(), **rate, **own}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Creates a layer from its config."""
        if not isinstance(config, dict):
            fail("Expected a config, a dict of arguments.", config=config)
        return cls(**{name: deserialize(value) for name, value in config.items()})


def selected(u, rate, select):
    """Returns which samples this call changes, (batch,)."""
    chosen = u < rate
    return chosen if select is None else chosen & select
