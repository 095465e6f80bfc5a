from types import MappingProxyType

import keras

from keras_reg._validation import fail


class Detachable(keras.callbacks.Callback):
    """A callback whose copies, and those in other processes, belong to no model: `fit` gives them theirs.

    A subclass names in `OF_FIT` the attributes that are good for the present `fit` alone, with what they become.
    """

    OF_FIT = MappingProxyType({})

    def __getstate__(self):
        state = {name: value for name, value in vars(self).items() if name not in self.OF_FIT}
        model = {name for name, value in state.items() if value is not None and value is self.model}
        own = {name: value.__name__ for name, value in state.items() if getattr(value, "__self__", None) is self}
        kept = {name: value for name, value in state.items() if name not in model and name not in own}
        return {"kept": kept, "own_methods": own}

    def __setstate__(self, state):
        keras.callbacks.Callback.__init__(self)
        vars(self).update({**self.OF_FIT, **state["kept"]})
        for name, method in state["own_methods"].items():
            setattr(self, name, getattr(self, method))


class StatefulCallback(Detachable):
    """A callback that starts anew with every `fit`, unless a saved state was put in before.

    A subclass names the attributes that make up its state in `STATE` and gives them their first values in `reset`.
    Those in `GROWING` are dicts of lists that are only ever appended to.
    """

    STATE = ()
    GROWING = ()
    first_epoch = 0  # what counts as epoch 0: each phase of a `TransferLearner` sets its own

    def __init__(self):
        super().__init__()
        self._loaded = False
        self.reset()

    def reset(self):
        """Gives every attribute in `STATE` its first value."""
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        if not self._loaded:
            self.reset()

    def on_epoch_begin(self, epoch, logs=None):
        # A state may be loaded before `fit` or by another callback's `on_train_begin`; from here on it is used up.
        self._loaded = False

    def on_train_end(self, logs=None):
        self._loaded = False

    def state_dict(self):
        """What this callback has seen and decided: JSON-serialisable, but for lists of NumPy arrays of weights."""
        return {name: _copied(getattr(self, name)) for name in self.STATE}

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned: the next `fit` goes on from there instead of starting anew.

        Args:
            state: What `state_dict` of a callback of the same class returned.

        Raises:
            ValueError: If the keys are not those of this callback's state.
        """
        if not isinstance(state, dict) or set(state) != set(self.STATE):
            keys = sorted(state) if isinstance(state, dict) else state
            fail(f"`state` must be a state of {type(self).__name__}, with the keys {sorted(self.STATE)}.", state=keys)
        for name in self.STATE:
            setattr(self, name, _copied(state[name]))
        self._loaded = True

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _copied(value):
    """New lists and dicts of lists, so that neither side appends to those of the other; what is in them is kept."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, list) else value
