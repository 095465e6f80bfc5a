"""The call of a wrapper with the arguments of its layer: tensors, masks and states, positional or by keyword."""

import inspect

import keras
from keras import tree

from keras_reg._dtypes import dtype_of

ADDED = ("mask", "training")  # the additional arguments of a wrapper


class WrappedCall:
    """The `call` of a wrapper, with the signature of its layer's `call`.

    Keras inspects the signature to find tensor arguments, their masks, and `training`. The work is done in
    `call_wrapped(args, kwargs, training)` of the wrapper.
    """

    def __init__(self, wrapper, layer):
        signature = inspect.signature(layer.call)
        self.wrapper = wrapper
        self.added = [name for name in ADDED if name not in signature.parameters]
        self.__signature__ = _with_keywords(signature, self.added)

    def __call__(self, *args, **kwargs):
        training = self.__signature__.bind(*args, **kwargs).arguments.get("training")
        return self.wrapper.call_wrapped(args, self.known(kwargs), training)

    def known(self, kwargs):
        """Returns the keyword arguments that the layer itself accepts."""
        return {name: value for name, value in kwargs.items() if name not in self.added}


def _with_keywords(signature, names):
    parameters = list(signature.parameters.values())
    new = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
    kinds = [parameter.kind for parameter in parameters]
    end = kinds.index(inspect.Parameter.VAR_KEYWORD) if inspect.Parameter.VAR_KEYWORD in kinds else len(parameters)
    return signature.replace(parameters=[*parameters[:end], *new, *parameters[end:]])


def is_tensor(value):
    """Whether `value` is a tensor of any framework, a symbolic tensor, or an array."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


class Scope(keras.StatelessScope):
    """A scope that calls a layer with other values of its variables, and records the variables that it assigns.

    A stateful RNN assigns variables that are not among its `variables`.
    """

    def __init__(self, values):
        super().__init__(values, collect_losses=True)
        self.updated = []

    def add_update(self, update):
        super().add_update(update)
        if not any(variable is update[0] for variable in self.updated):
            self.updated.append(update[0])


def rematerializes(layer, args, kwargs):
    """Whether `layer` is called a second time to compute its gradient."""

    def call():
        return None

    try:
        return layer.rematerialized_call(call, *args, **kwargs) is not call
    except AttributeError:  # Keras 3.10 only supports this for layers that were created in a scope
        return False


def policy_of(layer):
    """Returns the dtype policy of a wrapper: that of its layer, but without quantization."""
    if layer.quantization_mode is None:
        return layer.dtype_policy
    compute, variables = layer.compute_dtype, layer.variable_dtype
    return compute if compute == variables else f"mixed_{compute}"


def builds_by_call(layer):
    """Whether `layer` has no `build` of its own, so that its parts are built by their first call."""
    return type(layer).build is keras.layers.Layer.build


def build_by_call(layer, args, kwargs):
    """Builds `layer` for a call with these arguments, as Keras does before the first call."""
    if builds_by_call(layer):
        layer(*tree.map_structure(_symbolic, args), **tree.map_structure(_symbolic, kwargs))
        return
    arguments = inspect.signature(layer.call).bind_partial(
        *args, **{name: value for name, value in kwargs.items() if name in inspect.signature(layer.call).parameters}
    )
    shapes = {
        f"{name}_shape": tree.map_structure(_shape, value)
        for name, value in arguments.arguments.items()
        if "mask" not in name and any(map(is_tensor, tree.flatten(value)))
    }
    names = list(inspect.signature(layer.build).parameters)
    if len(names) == 1:
        layer.build(next(iter(shapes.values()), None))
    else:
        layer.build(**{name: shapes[name] for name in names if name in shapes})


def _shape(value):
    return tuple(value.shape) if is_tensor(value) else None


def _symbolic(value):
    if not is_tensor(value):
        return value
    return keras.KerasTensor(_shape(value), dtype_of(value))
