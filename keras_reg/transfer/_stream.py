"""Batches that can be iterated only once, such as those of a generator."""

import itertools

from keras_reg._validation import fail
from keras_reg.transfer._arrays import unpacked


class Stream:
    """Passes batches on and checks the labels of each of them on the way.

    Attributes:
        first: Its first batch, as (x, y, sample_weight).
        ended: Whether all batches have been taken.
        error: What was wrong with a batch: some backends wrap it in an error of their own.
    """

    def __init__(self, name, batches):
        self.name, self.ended, self.error = name, False, None
        self._check = lambda labels: None
        self._batches = iter(batches)
        first = next(self._batches, None)
        if first is None:
            fail(f"`{name}` must yield at least one batch. A generator can be iterated only once.", **{name: batches})
        self.first = unpacked(first)
        self._batches = itertools.chain([first], self._batches)

    def checked(self, check):
        """Sets the function that checks the labels of each batch."""
        self._check = check

    def generator(self):
        """Yields the remaining batches in a form that Keras takes."""
        for batch in self._batches:
            try:
                self._check(unpacked(batch)[1])
            except ValueError as error:
                self.error = error
                raise
            yield tuple(batch) if isinstance(batch, list) else batch
        self.ended = True
