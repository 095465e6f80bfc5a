"""The call forms of a batch: how the parts are read, and how the result gets the same form."""

import dataclasses

from keras_reg._backend import place_of
from keras_reg._validation import fail
from keras_reg.layers._batch._content import FIELDS, KEYS, Batch, arrays_of, each


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
        if hasattr(self.kind, "_make"):  # a namedtuple
            return self.kind._make(values)
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
