"""The features of a frozen backbone for the phases that train the head alone."""

import functools
import pathlib

from keras_reg._messages import say
from keras_reg._validation import fail
from keras_reg.transfer._cache_rules import Reason, reason_in_data, reason_in_settings
from keras_reg.transfer._features import ShapesDiffer, Store, extract
from keras_reg.transfer._labels import check_batch


class FeatureCache:
    """Computes the features of all data when a phase first asks for them, and keeps them while they are valid.

    Args:
        parts: The `Assembly`, whose `extractor` computes features.
        plan: The `Plan`.
        targets: What the losses expect of labels, which are checked while features are computed.
        limit: Bytes of features that are kept in memory; more are kept in a file.
    """

    def __init__(self, parts, plan, targets, limit):
        self.parts, self.plan = parts, plan
        self.targets, self.limit = targets, limit
        self._found, self._differ = None, None

    def get(self, phase):
        """Returns ((train, validation), None), or (None, the `Reason`) if a phase computes features itself.

        Asking twice gives the same answer and computes nothing again.
        """
        if phase.unfreeze is not None:
            self.forget()
        reason = self._reason(phase)
        if reason is None and self._found is None:
            try:
                self._found = self._compute(phase)
            except ShapesDiffer as error:
                reason = self._differ = Reason(f"they have different shapes, such as {error}")
        if reason is not None and phase.insists_on_cache:
            fail(f"The features cannot be computed once: {reason.text}.", cache_features=phase.cache_features)
        return (None, reason) if reason else (self._found, None)

    def forget(self):
        self._found = None

    def _reason(self, phase):
        """The reason against computing features once, first by the settings, since the data have to be read."""
        for question in (self._reason_in_settings, self._reason_in_data):
            reason = question(phase)
            if reason is not None and not (reason.soft and phase.insists_on_cache):
                return reason
        return None

    def _reason_in_settings(self, phase):
        return reason_in_settings(phase, self.parts, self.plan)

    def _reason_in_data(self, phase):
        if self._found is not None or self._differ is not None:
            return self._differ
        reason, self._shuffled = reason_in_data(self.parts.extractor, self.plan.train, self.plan.validation)
        return reason

    def _compute(self, phase):
        folder = None if phase.cache_features in (True, "auto") else pathlib.Path(phase.cache_features)
        found = {}
        for name, data in self.plan.data.items():
            short = name.removesuffix("_data")
            if self.plan.verbose:
                say(f"Computing the features of the {'training' if name == 'train' else 'validation'} data:")
            store = Store(self.limit, folder and folder / f"{short}_features.npy")
            check = functools.partial(check_batch, name, targets=self.targets)
            shuffled = self._shuffled and name == "train"
            try:
                found[name] = extract(self.parts.extractor, data, store, shuffled, self.plan.verbose, check)
            except ShapesDiffer:
                store.discard()
                raise
        return found["train"], found.get("validation_data")
