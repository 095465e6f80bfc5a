"""One batch in whatever form it was given: found, checked, and put back together."""

import dataclasses
from typing import Any

import keras

from keras_reg._backend import NATIVE, Place, place_of
from keras_reg._validation import fail

FIELDS = ("images", "labels", "sample_weights", "masks", "boxes")  # what a call gives, in a `Batch`
CONTENT = ("images", "terms", "dominant", "sample_weights", "masks", "boxes")  # where its arrays are
CLASS_KEYS = ("classes", "labels")  # what the classes of bounding boxes are called
KEYS = ("images", "labels", "sample_weights", "segmentation_masks", "bounding_boxes")


@dataclasses.dataclass
class Batch:
    """What belongs to the samples of one batch, while it is being augmented.

    Labels are `terms`: a list of (labels, weight of shape (batch,), or `None` for 1), each a nest of arrays as the call
    gave it (a model may have several outputs). Mixing integer labels makes two terms of one. They collapse to one-hot
    labels at once, except in a training step, where `keeps_ids` is true: the loss takes the terms one by one.
    `dominant` is what the metrics see where that is not the first term:
    (labels, weight of each of them, or `None` for 1), the original labels that weigh most. `strengths` are the present
    values of the weights behind `Strength` arguments, by the id of the weight, where they were read beforehand. `fresh`
    is whether the memory of the images was taken in this call and is nobody else's, so that it may be written to.
    """

    place: Place = NATIVE
    images: Any = None
    terms: list = dataclasses.field(default_factory=lambda: [(None, None)])
    dominant: tuple | None = None
    sample_weights: Any = None
    masks: Any = None
    boxes: Any = None
    others: dict = dataclasses.field(default_factory=dict)
    boxes_are_labels: bool = False
    keeps_ids: bool = False
    strengths: dict = dataclasses.field(default_factory=dict)
    fresh: bool = False
    kind: str | None = None  # what a sample is: "image", "video" or "signal"; `None` where it does not matter
    frames: Any = 1  # how many frames the channels of an image are those of, where it is a folded video
    is_signal: bool = False  # whether images are signals, one pixel wide
    dtype: str | None = None  # what pixels are computed in: the layer that was called says it for those in it

    @classmethod
    def of(cls, images, labels=None, boxes=None, **fields):
        """A batch that nothing has happened to. Labels that are boxes and their classes are its boxes."""
        if not is_boxes(labels):
            return cls(images=images, terms=[(labels, None)], boxes=boxes, **fields)
        if boxes is not None:
            fail("Expected boxes either as `labels` or as `bounding_boxes`, not both.", labels=sorted(map(str, labels)))
        return cls(images=images, boxes=labels, boxes_are_labels=True, **fields)

    @property
    def labels(self):
        """The labels of the first term; those of the others have the same structure, shapes and dtypes."""
        return self.terms[0][0]

    def given(self, name):
        """One of `FIELDS` as the call gave it and gets it back."""
        if self.boxes_are_labels and name in ("labels", "boxes"):
            name = "boxes" if name == "labels" else "labels"
        return getattr(self, name)

    @property
    def ops(self):
        return self.place.ops

    def size(self):
        return self.ops.shape(leaves(self.images)[0])[0]

    def computed_once(self, *arrays):
        return self.place.computed_once(*arrays)

    def is_in_reach(self, *more):
        return self.place.is_in_reach([*arrays_of(self), *leaves(more)])

    def on_host(self, *more):
        """This batch, and more tensors or `None`, as NumPy's arrays, once `is_in_reach` has said that they can be."""
        arrays, place = self.place.on_host([*arrays_of(self), *leaves(more)])
        arrays = iter(arrays)
        batch = dataclasses.replace(each(self, lambda _: next(arrays)), place=place)
        return batch, *(None if tensor is None else next(arrays) for tensor in more)


class Form:
    """The form in which a call gave its data, so that the result comes back in the same one."""

    def __init__(self, data, labels=None, sample_weight=None, several=False):
        """`several` is whether the images may be a nest of inputs, which comes apart from the labels, or in a tuple."""
        self.kind, self.batch = type(data), Batch()
        apart = labels is not None or sample_weight is not None
        if several and apart and (isinstance(data, (tuple, list)) or (isinstance(data, dict) and "images" not in data)):
            self._read_apart(data, labels, sample_weight)
        elif isinstance(data, dict):
            self._read_dict(data, labels, sample_weight)
        elif isinstance(data, (tuple, list)):
            self._read_tuple(data, labels, sample_weight)
        else:
            self._read_apart(data, labels, sample_weight)

    def _read_apart(self, data, labels, sample_weight):
        self.kind = None
        self.length = 1 if labels is None and sample_weight is None else 2 if sample_weight is None else 3
        self.batch = Batch.of(data, labels, sample_weights=sample_weight)

    def _read_dict(self, data, labels, sample_weight):
        if labels is not None or sample_weight is not None:
            raise ValueError(
                "Expected labels and sample weights inside the dict, as `labels` and `sample_weights`. "
                "Received: a dict and further positional arguments"
            )
        if data.get("images") is None:
            fail('Expected a dict with the key "images".', keys=sorted(map(str, data)))
        if not all(isinstance(key, str) for key in data):
            fail("Expected a dict whose keys are strings.", keys=sorted(map(repr, data)))
        fields = dict(zip(KEYS, FIELDS, strict=True))
        self.keys = list(data)
        self.batch = Batch.of(
            **{fields[key]: value for key, value in data.items() if key in fields},
            others={key: value for key, value in data.items() if key not in fields},
        )

    def _read_tuple(self, data, labels, sample_weight):
        if labels is not None or sample_weight is not None or not 1 <= len(data) <= 3:
            raise ValueError(
                "Expected (images,), (images, labels) or (images, labels, sample_weight). Received: "
                f"a {type(data).__name__} of {len(data)} and "
                f"{(labels is not None) + (sample_weight is not None)} further positional arguments"
            )
        self.length = len(data)
        self.batch = Batch.of(**dict(zip(("images", "labels", "sample_weights"), data, strict=False)))

    def arguments(self):
        """(data, labels, sample_weight) as in the call, of the arrays that are in the batch now."""
        batch = self.batch
        apart = self.kind is None
        return (
            (batch.images, batch.given("labels"), batch.sample_weights) if apart else (self.restore(batch), None, None)
        )

    def put_back(self, done, others):
        """The result of a call on a dict, with entries that did not take part in it."""
        return {key: others[key] if key in others else done[key] for key in self.keys}

    def restore(self, batch):
        """The result in the form of the call."""
        if self.kind is not None and issubclass(self.kind, dict):
            found = {key: batch.given(name) for key, name in zip(KEYS, FIELDS, strict=True)} | batch.others
            return {key: found[key] for key in self.keys if key in found}
        values = (batch.images, batch.given("labels"), batch.sample_weights)[: self.length]
        if self.kind is None:
            return values[0] if self.length == 1 else values
        return self.kind(values) if self.kind in (tuple, list) else tuple(values)


def to_tensors(batch):
    """The batch with every array as a tensor of the place where it is handled."""
    place = place_of(arrays_of(batch))
    return dataclasses.replace(each(batch, _converter(place)), place=place)


def _converter(place):
    def convert(array):
        try:
            return place.tensor(array)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Expected arrays of numbers. Received: {type(array).__name__}") from error

    return convert


def is_boxes(labels):
    """Whether labels are the nest of bounding boxes that Keras' layers take: "boxes" with "labels" or "classes"."""
    return isinstance(labels, dict) and "boxes" in labels and any(key in labels for key in CLASS_KEYS)


def is_float(array):
    return keras.backend.is_float_dtype(dtype_of(array))


def is_integer(array):
    return keras.backend.is_int_dtype(dtype_of(array))


def dtype_of(array):
    return keras.backend.standardize_dtype(array.dtype)


def one_number_each(array):
    """Whether labels are one number for each sample, (batch,) or (batch, 1), as class ids are."""
    return len(array.shape) == 1 or (len(array.shape) == 2 and static(array, 1) == 1)


def static(array, axis):
    """The size of an axis where it is known before the call runs, else `None`."""
    size = array.shape[axis]
    return size if isinstance(size, int) else None


def spec_of(shape, dtype):
    """A specification, with a name: Keras counts those without, and torch.compile compiles anew for each count."""
    return keras.KerasTensor(shape, dtype, name="spec")


def spatial_axes(data_format):
    return (1, 2) if data_format == "channels_last" else (2, 3)


def channels_first(array, data_format):
    """Whether the channels stand in front; those of a map may be missing."""
    return len(array.shape) == 4 and data_format == "channels_first"


def height_width(images, data_format, ops):
    shape = ops.shape(images)
    return tuple(shape[axis] for axis in spatial_axes(data_format))


def is_map(array, images, data_format):
    """Whether labels are a dense map: one label for each pixel of the images."""
    rank = len(array.shape)
    if rank < 3 or not hasattr(images, "shape") or len(images.shape) != 4:
        return False
    axes = spatial_axes(data_format) if rank == 4 else (1, 2)
    of_images = spatial_axes(data_format)
    return all(
        static(array, axis) in (None, static(images, of_image)) or static(images, of_image) is None
        for axis, of_image in zip(axes, of_images, strict=True)
    )


def spread(values, like, ops):
    """(batch,) as (batch, 1, ..., 1), to broadcast over an array of the rank of `like`."""
    return ops.reshape(values, [-1] + [1] * (len(like.shape) - 1))


def leaves(structure):
    """The arrays of a structure, without `None`."""
    if structure is None or hasattr(structure, "shape"):  # nearly always; `keras.tree` takes its time
        return [] if structure is None else [structure]
    return [array for array in keras.tree.flatten(structure) if array is not None]


def map_arrays(function, *structures):
    """`keras.tree.map_structure` that leaves `None` alone."""
    if structures[0] is None or hasattr(structures[0], "shape"):
        return None if structures[0] is None else function(*structures)
    return keras.tree.map_structure(lambda *leaves: None if leaves[0] is None else function(*leaves), *structures)


def each(batch, function):
    """The batch with `function` applied to every array of it."""
    done = {name: map_arrays(function, getattr(batch, name)) for name in CONTENT if name not in ("terms", "dominant")}
    done["terms"] = [_each_of(pair, function) for pair in batch.terms]
    done["dominant"] = batch.dominant and _each_of(batch.dominant, function)
    return dataclasses.replace(batch, **done)


def _each_of(pair, function):
    return tuple(map_arrays(function, part) for part in pair)


def arrays_of(batch):
    """All arrays, in the order in which `each` comes to them: `keras.tree.flatten` has another one for a dict."""
    found = []
    each(batch, found.append)
    return found
