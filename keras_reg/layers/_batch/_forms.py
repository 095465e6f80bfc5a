"""The call forms of a batch: how the parts are read, and how the result gets the same form."""

import dataclasses
from typing import Any

import keras

from keras_reg._backend import NATIVE, Place, place_of
from keras_reg._validation import fail

# The fields of a `Batch` that a call provides, and those that hold arrays.
FIELDS = ("images", "labels", "sample_weights", "masks", "boxes", "keypoints")
CONTENT = ("images", "terms", "dominant", "sample_weights", "masks", "boxes", "keypoints", "plan")
STRUCTURES = tuple(name for name in CONTENT if name not in ("terms", "dominant"))  # those two hold pairs
CLASS_KEYS = ("classes", "labels")  # the possible keys for the classes of bounding boxes
KEYS = ("images", "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints")


@dataclasses.dataclass
class Batch:
    """The data of one batch during augmentation.

    Labels are stored as `terms`, a list of pairs (labels, weight). The labels are a nest of arrays, since a model may
    have several outputs. The weight has shape (batch,), or is `None` for 1. Mixing integer labels turns one term into
    two, which are collapsed to one-hot labels at once. In a training step, `keeps_ids` is true, and the terms are kept:
    the loss uses them one by one.

    `dominant` is a pair (labels, weights) for the metrics: the original labels with the largest weight, and the weight
    of each of them, or `None` for 1. If `dominant` is `None`, metrics use the first term. `strengths` maps ids of
    `Strength` weights to values that were read before the call. `fresh` tells whether the memory of the images was
    allocated in this call and nothing else uses it, so that it can be overwritten.

    `inside` is `None`, or has one entry per layer of a network whose output may be mixed instead of the images: the
    height and width of this output, or `None` if they do not matter. A mixer then leaves the images as they are and
    stores what it has drawn in `plan` (see `_pixels._inside`).
    """

    place: Place = NATIVE
    images: Any = None
    terms: list = dataclasses.field(default_factory=lambda: [(None, None)])
    dominant: tuple | None = None
    sample_weights: Any = None
    masks: Any = None
    boxes: Any = None
    keypoints: Any = None
    others: dict = dataclasses.field(default_factory=dict)
    boxes_are_labels: bool = False
    keeps_ids: bool = False
    strengths: dict = dataclasses.field(default_factory=dict)
    fresh: bool = False
    inside: tuple | None = None
    plan: Any = None
    kind: str | None = None  # the kind of sample: "image", "video" or "signal"; `None` if it does not matter
    frames: Any = 1  # the number of frames in the channels of an image that is a folded video
    is_signal: bool = False  # whether images are folded signals, of width 1
    dtype: str | None = None  # the dtype for pixels inside a composite layer, set by the outermost layer

    @classmethod
    def of(cls, images, labels=None, boxes=None, **fields):
        """Creates a batch from the data of a call. Labels that consist of boxes and classes become its boxes."""
        if not is_boxes(labels):
            return cls(images=images, terms=[(labels, None)], boxes=boxes, **fields)
        if boxes is not None:
            fail("Expected boxes either as `labels` or as `bounding_boxes`, not both.", labels=sorted(map(str, labels)))
        return cls(images=images, boxes=labels, boxes_are_labels=True, **fields)

    @property
    def labels(self):
        """The labels of the first term. All terms have the same structure, shapes and dtypes."""
        return self.terms[0][0]

    def given(self, name):
        """Returns one of `FIELDS` in the role that it has in the call."""
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

    def drawing(self):
        """Returns this batch for NumPy, which computes parameters from the shapes and dtypes of its tensors."""
        return dataclasses.replace(self, place=self.place.of_parameters())

    def is_in_reach(self, *more):
        return self.place.is_in_reach([*arrays_of(self), *(tensor for tensor in more if tensor is not None)])

    def on_host(self, *more):
        """Returns this batch, and more tensors or `None`, as NumPy arrays. `is_in_reach` must hold for them."""
        arrays, place = self.place.on_host([*arrays_of(self), *(tensor for tensor in more if tensor is not None)])
        arrays = iter(arrays)
        batch = dataclasses.replace(each(self, lambda _: next(arrays)), place=place)
        return batch, *(None if tensor is None else next(arrays) for tensor in more)


class Form:
    """The form of the data in a call, so that the result gets the same form."""

    def __init__(self, data, labels=None, sample_weight=None, several=False):
        """Reads the data. `several` tells whether the images may be a nest of inputs, with labels passed separately."""
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
        """Returns (data, labels, sample_weight) in the form of the call, with the current arrays of the batch."""
        batch = self.batch
        apart = self.kind is None
        return (
            (batch.images, batch.given("labels"), batch.sample_weights) if apart else (self.restore(batch), None, None)
        )

    def put_back(self, done, others):
        """Returns the result of a call on a dict, with the entries that were set apart."""
        return {key: others[key] if key in others else done[key] for key in self.keys}

    def restore(self, batch):
        """Returns the result in the form of the call."""
        if self.kind is not None and issubclass(self.kind, dict):
            found = {key: batch.given(name) for key, name in zip(KEYS, FIELDS, strict=True)} | batch.others
            return {key: found[key] for key in self.keys if key in found}
        values = (batch.images, batch.given("labels"), batch.sample_weights)[: self.length]
        if self.kind is None:
            return values[0] if self.length == 1 else values
        return self.kind(values) if self.kind in (tuple, list) else tuple(values)


def to_tensors(batch):
    """Converts every array of the batch to a tensor of the place that processes it."""
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
    """Whether labels are a dict of bounding boxes as in Keras: "boxes" with "labels" or "classes"."""
    return isinstance(labels, dict) and "boxes" in labels and any(key in labels for key in CLASS_KEYS)


def is_float(array):
    return keras.backend.is_float_dtype(dtype_of(array))


def is_integer(array):
    return keras.backend.is_int_dtype(dtype_of(array))


def dtype_of(array):
    return keras.backend.standardize_dtype(array.dtype)


def at_least_float32(dtype):
    """Returns the dtype for computing with numbers of this dtype."""
    return "float64" if dtype == "float64" else "float32"


def one_number_each(array):
    """Whether labels have one number per sample, (batch,) or (batch, 1), like class ids."""
    return len(array.shape) == 1 or (len(array.shape) == 2 and static(array, 1) == 1)


def static(array, axis):
    """Returns the size of an axis if it is known statically, or `None`."""
    size = array.shape[axis]
    return size if isinstance(size, int) else None


def spec_of(shape, dtype):
    """Returns a specification with a fixed name.

    Keras numbers unnamed specifications, and torch.compile would recompile for each number.
    """
    return keras.KerasTensor(shape, dtype, name="spec")


def spatial_axes(data_format):
    return (1, 2) if data_format == "channels_last" else (2, 3)


def channels_first(array, data_format):
    """Whether channels come first. Maps may have no channels."""
    return len(array.shape) == 4 and data_format == "channels_first"


def height_width(images, data_format, ops):
    shape = ops.shape(images)
    return tuple(shape[axis] for axis in spatial_axes(data_format))


def is_map(array, images, data_format):
    """Whether labels are a dense map, with one label per pixel of the images."""
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
    """Reshapes (batch,) to (batch, 1, ..., 1), to broadcast over an array with the rank of `like`."""
    return ops.reshape(values, [-1] + [1] * (len(like.shape) - 1))


def leaves(structure):
    """Returns the arrays of a structure, without `None`."""
    if structure is None or hasattr(structure, "shape"):  # the most frequent cases; `keras.tree` is slow
        return [] if structure is None else [structure]
    if isinstance(structure, dict) and not structure:
        return []
    return [array for array in keras.tree.flatten(structure) if array is not None]


def map_arrays(function, *structures):
    """Maps a function over structures like `keras.tree.map_structure`, but keeps `None`."""
    if structures[0] is None or hasattr(structures[0], "shape"):
        return None if structures[0] is None else function(*structures)
    return keras.tree.map_structure(lambda *leaves: None if leaves[0] is None else function(*leaves), *structures)


def each(batch, function):
    """Applies `function` to every array of the batch."""
    done = {name: map_arrays(function, getattr(batch, name)) for name in STRUCTURES}
    done["terms"] = [_each_of(pair, function) for pair in batch.terms]
    done["dominant"] = batch.dominant and _each_of(batch.dominant, function)
    return dataclasses.replace(batch, **done)


def _each_of(pair, function):
    return tuple(map_arrays(function, part) for part in pair)


def arrays_of(batch):
    """Returns all arrays in the order of `each`. For dicts, it differs from the order of `keras.tree.flatten`."""
    pairs = [*batch.terms, batch.dominant or ()]
    found = []
    for part in (*(getattr(batch, name) for name in STRUCTURES), *(part for pair in pairs for part in pair)):
        map_arrays(found.append, part)
    return found
