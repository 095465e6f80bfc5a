"""Functional and Sequential networks as graphs: their layers, and the same layers called in another way."""

import keras


def is_graph(model):
    """Whether this is a Sequential model, or a Functional one that runs its graph and nothing else."""
    if isinstance(model, keras.Sequential):
        return type(model).call is keras.Sequential.call and (not model.built or _has_graph(model))
    if not isinstance(model, keras.Model) or not isinstance(model, keras.Function):
        return False
    return type(model).call is type(keras.Model(model.input, model.output, name=model.name)).call


def _has_graph(model):
    """Whether a built Sequential model has a graph. With several inputs, it only applies its layers in order."""
    try:
        return bool(model.inputs)
    except AttributeError:
        return False


def names_in(model, with_inputs=True):
    """Returns the names of the layers and operations of a network, with its inputs and the layers of inner networks."""
    is_built = model.built or isinstance(model, keras.Function)
    names = []
    for operation in as_functional(model).operations if is_built else model.layers:
        if with_inputs or not isinstance(operation, keras.layers.InputLayer):
            names.append(operation.name)
        if is_graph(operation):
            names += names_in(operation, with_inputs=False)
    return names


def as_functional(model, name=None):
    """Returns the graph of a network as a Functional model. Subclasses may have a constructor of their own."""
    if isinstance(model, keras.Function):
        return keras.Model(model.input, model.output, name=name or model.name)
    return keras.Model(_one_or_all(model.inputs), _one_or_all(model.outputs), name=name or model.name)


def recalled(network, call):
    """Returns a network with the same layers, each of which is called by `call(layer, *args, **kwargs)`.

    Args:
        network: A Functional model, such as that of `as_functional`.
        call: A function that returns what the layer is to return.
    """
    return keras.models.clone_model(
        network, input_tensors=network.input, clone_function=lambda operation: operation, call_function=call
    )


def _one_or_all(tensors):
    return tensors[0] if len(tensors) == 1 else tensors


def options_like(model, options):
    """Returns the options of a `keras.Model` around another one.

    It has the same dtype policy, on which the scale of the loss depends, and leaves it to the other one to cast inputs.
    """
    return {"dtype": model.dtype_policy, "autocast": False, **options}
