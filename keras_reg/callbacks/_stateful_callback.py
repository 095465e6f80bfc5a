import inspect
from types import MappingProxyType
from typing import Self

import keras

from keras_reg._typing import Config, Logs
from keras_reg._validation import fail


class Detachable(keras.callbacks.Callback):
    """A callback that can be copied and pickled. The copy belongs to no model until `fit` gives it one.

    A subclass lists in `OF_FIT` the attributes that are valid during one `fit` only, with their values in a copy.
    """

    OF_FIT = MappingProxyType({})
    first_epoch = 0  # the epoch that counts as epoch 0: each phase of a `TransferLearner` sets its own

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
    """A callback that starts anew with every `fit`, unless a saved state was loaded before.

    A subclass lists the attributes that make up its state in `STATE`, and sets their first values in `reset`. `reset`
    also runs in `__init__`, before a subclass has stored its arguments, so it must not read them. Attributes in
    `GROWING` are dicts of lists to which values are only appended.
    """

    STATE: tuple[str, ...] = ()
    GROWING: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self._loaded = False
        self.reset()

    def reset(self) -> None:
        """Gives every attribute in `STATE` its first value."""
        raise NotImplementedError

    def on_train_begin(self, logs: Logs = None) -> None:
        if not self._loaded:
            self.reset()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        # A state may be loaded before `fit`, or by another callback's `on_train_begin`, for this `fit` only.
        self._loaded = False

    def on_train_end(self, logs: Logs = None) -> None:
        self._loaded = False

    def state_dict(self) -> Config:
        """Returns the state of this callback. It is JSON-serializable, except for NumPy arrays of weights."""
        return {name: _copied(getattr(self, name)) for name in self.STATE}

    def load_state_dict(self, state: Config) -> None:
        """Loads a state, from which the next `fit` continues instead of starting anew.

        Args:
            state: Dict returned by `state_dict` of a callback of the same class.

        Raises:
            ValueError: If the keys are not those of this callback's state.
        """
        if not isinstance(state, dict) or set(state) != set(self.STATE):
            keys = sorted(state) if isinstance(state, dict) else state
            fail(
                f"`state` must be the `state_dict` of a {type(self).__name__}, with the keys {sorted(self.STATE)}.",
                state=keys,
            )
        for name in self.STATE:
            setattr(self, name, _copied(state[name]))
        self._loaded = True

    def _arguments_of(self, cls):
        """Returns the arguments of the constructor of `cls`, which are attributes of the same names."""
        return {name: getattr(self, name) for name in inspect.signature(cls).parameters}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**config)


def _copied(value):
    """Copies lists and dicts of lists, so that neither side appends to those of the other; their items are shared."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, list) else value
