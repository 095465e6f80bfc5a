import contextlib
from typing import Any

import keras
from keras import tree

from keras_reg._backend import fold, is_compiling
from keras_reg._inner_layers import inside
from keras_reg._typing import Tensors
from keras_reg._validation import check_seed, fail
from keras_reg.layers._batch._arrays import array_of
from keras_reg.layers._noise._one_array import with_flag
from keras_reg.layers._noise._random_layer import RandomLayer
from keras_reg.layers._noise._wrapped_call import (
    Scope,
    WrappedCall,
    build_by_call,
    builds_by_call,
    is_tensor,
    policy_of,
    rematerializes,
)


class WeightWrapper(RandomLayer, keras.layers.Wrapper):
    """A wrapper that calls a layer with modified kernels in training. It accepts all arguments of the layer.

    A subclass implements `disturb(kernel, key, strength)`, a pure function that returns the kernel for one call.
    """

    def __init__(
        self, layer: keras.layers.Layer, name_of_strength: str, strength: Any, seed: int | None, **kwargs: Any
    ) -> None:
        seed = check_seed(seed)
        _check_layer(layer, type(self).__name__, kwargs)
        self.__dict__["call"] = WrappedCall(self, layer)  # Keras reads its signature in the next line
        # Only the wrapped layer casts inputs, and its policy determines the output dtype.
        super().__init__(layer, **{**kwargs, "dtype": policy_of(layer), "autocast": False})
        self.supports_masking = layer.supports_masking
        self.input_spec = getattr(layer, "input_spec", None)
        self._set_seed(seed)
        self.set_strength(name_of_strength, strength)
        self._name_of_strength = name_of_strength
        self._builder = None

    # Building.

    def __call__(self, *args: Any, **kwargs: Any) -> Tensors:
        if not any(map(is_tensor, tree.flatten((args, kwargs)))):
            fail(f"`{self.name}` must be called on tensors, like its `layer`.", inputs=(*args, *kwargs.values()))
        if not is_compiling():
            args, kwargs = tree.map_structure(_checked, args), with_flag(kwargs)
        if self.built:
            return super().__call__(*args, **kwargs)
        with self._built_by(lambda: build_by_call(self.layer, args, kwargs)):
            return super().__call__(*args, **kwargs)

    @contextlib.contextmanager
    def _built_by(self, builder):
        """Lets `build` use `builder`, which knows more than the shape of the first argument."""
        self._builder = builder
        try:
            yield
        finally:
            self._builder = None

    def build(self, input_shape: Any = None) -> None:
        try:
            if not self.layer.built and self._builder is not None:
                self._builder()
            super().build(input_shape)
        except Exception as error:  # layers may raise any exception for unsuitable inputs
            raise ValueError(f"`layer` cannot be built for these `inputs`. Received: shape={input_shape}") from error
        if not self._named_kernels():
            fail("`layer` must have a weight whose name ends in 'kernel'.", layer=self.layer)

    def get_build_config(self):
        return {"layer": self.layer.get_build_config()}

    def build_from_config(self, config):
        if "layer" not in config:  # a file of an earlier version
            super().build_from_config(config)
        elif config["layer"] and not builds_by_call(self.layer):
            with self._built_by(lambda: self.layer.build_from_config(config["layer"])):
                self.build()

    def _named_kernels(self):
        return [v for v in self.layer.weights if v.name.endswith("kernel")]

    def _kernels(self):
        """Returns the float kernels. Those of a quantized layer are integers and do not train."""
        return [v for v in self._named_kernels() if keras.backend.is_float_dtype(v.dtype)]

    # Calling.

    def call_wrapped(self, args, kwargs, training):
        if not training or self._is_plain(self._name_of_strength, 0) or not self._kernels():
            return self.layer(*args, **kwargs)
        if rematerializes(self.layer, args, kwargs):  # the gradient would use the stored kernels
            fail("`layer` must be created outside of a `keras.RematScope`.", layer=self.layer)
        # A scope does not see the variables of an outer scope, so it needs all of them.
        scope = Scope(self._values(self.layer.variables))
        with scope:
            outputs = self.layer(*args, **kwargs)
        for variable in scope.updated:
            if any(variable is kernel for kernel in self._kernels()):  # its value would be the disturbed one
                fail("`layer` must not assign its kernel in training.", layer=self.layer)
            variable.assign(scope.get_current_value(variable))
        for loss in scope.losses:
            self.add_loss(loss * 1.0)  # a new tensor, since the original one belongs to the wrapped layer
        return outputs

    def _values(self, variables):
        """Yields each variable with its value in this call."""
        key = self.random.key()
        numbers = {id(kernel): number for number, kernel in enumerate(self._kernels())}
        for variable in variables:
            value = variable.value
            if id(variable) in numbers:
                value = self.disturb(
                    value, fold(key, numbers[id(variable)]), self._value_or_weight(self._name_of_strength)
                )
            yield variable, value

    def compute_mask(self, inputs: Tensors, mask: Tensors = None) -> Any:
        return self.layer.compute_mask(inputs, mask)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(*args, **self.call.known(kwargs))


def _check_layer(layer, wrapper, kwargs):
    if not isinstance(layer, keras.layers.Layer):
        fail("`layer` must be a `keras.layers.Layer`.", layer=layer)
    if any(isinstance(part, keras.layers.SpectralNormalization) for part in inside(layer)):
        fail("`layer` must not contain a `SpectralNormalization`, which assigns its kernel in training.", layer=layer)
    if "go_backwards" in kwargs:  # `Bidirectional` adds it to the config of its layer
        fail(f"`{wrapper}` must wrap `Bidirectional` from outside: `{wrapper}(Bidirectional(layer))`.", layer=layer)
    dtype = kwargs.get("dtype")
    is_model = isinstance(layer, keras.Model)  # its policy does not determine the dtypes of its layers
    if dtype is not None and not is_model and keras.dtype_policies.get(dtype).compute_dtype != layer.compute_dtype:
        fail(f"`dtype` must be that of `layer`, {layer.compute_dtype}, or left out.", dtype=dtype)


def _checked(value):
    return array_of(value, "inputs") if is_tensor(value) else value
