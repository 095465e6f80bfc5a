"""The data of one batch during augmentation."""

import dataclasses
from typing import Any

import keras

from keras_reg._backend import NATIVE, Place
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

    def with_images_computed_once(self):
        """Returns this batch with its images computed before what reads them. XLA would compute them for each reader.

        Without this, `RandomAffine` before `MixUp` takes up to 17 times as long on JAX. Masks need no such boundary:
        they take the nearest pixel, which is cheap.
        """
        if not self.place.fuses:
            return self
        return dataclasses.replace(self, images=nest_computed_once(self.images, self.place))

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


def is_boxes(labels):
    """Whether labels are a dict of bounding boxes as in Keras: "boxes" with "labels" or "classes"."""
    return isinstance(labels, dict) and "boxes" in labels and any(key in labels for key in CLASS_KEYS)


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


def nest_computed_once(nest, place, known=()):
    """Returns a nest of arrays, computed before what reads them. One barrier holds it and the arrays `known`."""
    arrays = []
    map_arrays(arrays.append, nest)
    done = iter(place.computed_once(*known, *arrays)[len(known) :])
    return map_arrays(lambda _: next(done), nest)
