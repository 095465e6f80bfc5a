"""Which part of the labels or losses belongs to which output of a model, in the forms that Keras accepts."""

import contextlib

import keras

from keras_reg._validation import fail


def names_of_outputs(model):
    """Returns the names by which labels and losses belong to the outputs, in the order of `model.outputs`.

    If the model returns several outputs in a dict, these are its keys. Otherwise they are `output_names`.
    """
    if len(model.outputs) > 1 and isinstance(model.output, dict):
        return [path[0] if len(path) == 1 else path for path, _ in keras.tree.flatten_with_path(model.output)]
    return list(getattr(model, "output_names", [model.name]))  # a `Sequential` has one output without a name


def by_output(names, nest):
    """Returns a list with the part of a nest for each output, or `None` if the nest fits no outputs of these names.

    A name that is missing in a dict has the part `None`.
    """
    if len(names) == 1:
        parts = keras.tree.flatten(nest)
        return parts if len(parts) == 1 else None
    if isinstance(nest, dict):
        return [nest.get(name) for name in names] if set(nest) & set(names) else None
    return list(nest) if isinstance(nest, (list, tuple)) and len(nest) == len(names) else None


def losses_by_output(names, losses):
    """Returns a list with the loss of each output, or `None`, given the `loss` argument of `compile`.

    A loss that is not in a nest applies to every output.
    """
    is_nest = isinstance(losses, (dict, list, tuple))
    return by_output(names, losses) if is_nest else [losses] * len(names)


@contextlib.contextmanager
def naming_missing_labels(model, name):
    """Raises a clear error for an output with a metric and without labels, for which Keras raises a bare `KeyError`."""
    try:
        yield
    except KeyError as error:
        if not getattr(model, "outputs", None) or error.args[0] not in names_of_outputs(model):
            raise
        fail(f"`{name}` must have labels for each output with a loss or a metric.", missing=error.args[0])
