"""The states of callbacks as a nest that can be written, and what has grown in them since the last time."""

import io

import keras

from keras_reg import _storage
from keras_reg._validation import fail

# The attributes that Keras' own callbacks lose in a restart, since they have no `state_dict`.
KERAS_STATE = {
    keras.callbacks.History: ("epoch", "history"),
    keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "stopped_epoch", "wait"),
    keras.callbacks.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
    keras.callbacks.ModelCheckpoint: ("best",),
}


def _keras_names(callback):
    return [name for kind, names in KERAS_STATE.items() if isinstance(callback, kind) for name in names]


def _state_of(callback):
    if hasattr(callback, "state_dict"):
        return callback.state_dict()
    return {name: getattr(callback, name) for name in _keras_names(callback)}


def _set_state(callback, state):
    if hasattr(callback, "state_dict"):
        callback.load_state_dict(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


class CallbackStates:
    """The states of all callbacks that have one.

    An attribute in `GROWING` of a callback is a dict of lists to which every epoch appends. Only the new items are
    taken, so that a long training does not write the whole lists again after each epoch.
    """

    def __init__(self, callbacks):
        stateful = [c for c in callbacks if hasattr(c, "state_dict") or _keras_names(c)]
        self.callbacks = {f"{index}_{type(callback).__name__}": callback for index, callback in enumerate(stateful)}
        self._lengths = {}

    @property
    def names(self):
        return list(self.callbacks)

    def check(self):
        """Raises for a state that cannot be written, before the first epoch rather than after it."""
        for name, callback in self.callbacks.items():
            try:
                _storage.dump_nest(io.BytesIO(), _state_of(callback))
            except (TypeError, ValueError, AttributeError, RecursionError) as error:
                fail(
                    f"`state_dict` of {type(callback).__name__} must return dicts, lists, numbers, strings, None and "
                    f"NumPy arrays only. It cannot be saved: {error}.",
                    callbacks=name,
                )

    def take(self):
        """Returns (the states, what has grown since the last call)."""
        states = {name: _state_of(callback) for name, callback in self.callbacks.items()}
        grown = {}
        for name, attribute, lists in self._growing(states):
            for key, values in lists.items():
                start = min(self._lengths.get((name, attribute, key), 0), len(values))
                self._lengths[name, attribute, key] = len(values)
                if len(values) > start:
                    grown.setdefault(name, {}).setdefault(attribute, {})[key] = [start, values[start:]]
            states[name][attribute] = {key: [] for key in lists}
        return states, grown

    def put(self, states, growth):
        """Restores states, together with all that had grown until then."""
        for grown in growth:
            for name, attributes in grown.items():
                for attribute, lists in attributes.items():
                    for key, (start, values) in lists.items():
                        states[name][attribute][key][start:] = values
        self._lengths = {
            (name, attribute, key): len(values)
            for name, attribute, lists in self._growing(states)
            for key, values in lists.items()
        }
        for name, callback in self.callbacks.items():
            _set_state(callback, states[name])

    def start_anew(self):
        self._lengths = {}

    def _growing(self, states):
        for name, callback in self.callbacks.items():
            for attribute in getattr(callback, "GROWING", ()):
                yield name, attribute, states[name][attribute]
