"""The average in the files of weights that are saved during `fit`, such as those of `BackupAndRestore`."""

import warnings

import keras
import numpy as np

NAME = "keras_reg_weight_average"  # the attribute of the model, and the group in its files


class SavedAverage(keras.losses.Loss):
    """An attribute of a model that Keras saves and loads with its weights, and that is not one of its layers.

    A model without it ignores this part of a file.

    Args:
        callback: The callback whose `state_dict` is saved.
    """

    def __init__(self, callback):
        super().__init__(name=NAME)
        self.callback = callback

    def call(self, y_true, y_pred):
        raise NotImplementedError

    def save_own_variables(self, store):
        state = self.callback.state_dict()
        if state["average"] is None:
            return
        store["updates"] = np.array(state["updates"])
        for name in ("average", "weights"):
            for number, array in enumerate(state[name] or ()):
                store[f"{name}_{number}"] = array

    def load_own_variables(self, store):
        keys = set(store.keys())
        if "updates" not in keys:
            return
        state = {"updates": int(np.array(store["updates"]))}
        for name in ("average", "weights"):
            count = sum(key.startswith(f"{name}_") for key in keys)
            state[name] = [np.array(store[f"{name}_{number}"]) for number in range(count)] or None
        self.callback.load_state_dict(state)


def attach(model, callback):
    """Makes files of the model's weights contain the state of the callback."""
    object.__setattr__(model, NAME, SavedAverage(callback))


def detach(model):
    if NAME in vars(model):
        object.__delattr__(model, NAME)


def attached(model):
    """Returns the callback whose state is saved with the model, or `None`."""
    found = vars(model).get(NAME)
    return found and found.callback


def warn_of_average_at_the_end(model, callback):
    """Warns if the average replaces the weights at the end of `fit`, where `callback` restores the best ones."""
    average = attached(model)
    if average is not None and average.swap == "end":
        warnings.warn(
            f'`{callback}` restores the best weights and `WeightAverage(swap="end")` the average, so the model keeps '
            'only those of the last of the two callbacks. To restore the best average, pass `swap="validation"`.',
            stacklevel=3,
        )
