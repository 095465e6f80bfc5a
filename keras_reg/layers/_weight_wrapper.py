import inspect

import keras

from keras_reg._backend import RandomSource, fold
from keras_reg._random_state import KeepsPosition
from keras_reg._validation import check_seed, fail
from keras_reg.layers._strength_weight import hold


class WeightWrapper(KeepsPosition, keras.layers.Wrapper):
    """A layer that in training is called with other kernels than it stores.

    A subclass writes `disturb(kernel, key, strength)`, a pure function: the kernel of one call.
    """

    def __init__(self, layer, name_of_strength, strength, seed, **kwargs):
        check_seed(seed)
        if not isinstance(layer, keras.layers.Layer):
            fail("`layer` must be a `keras.layers.Layer`.", layer=layer)
        # Inputs are cast by the wrapped layer alone, and its policy says what comes out.
        super().__init__(layer, **{"dtype": layer.dtype_policy, **kwargs}, autocast=False)
        self.seed = seed
        self.supports_masking = layer.supports_masking
        self.random = RandomSource(seed, type(self).__name__)
        self.generator = self.random.generator
        self._strength = hold(self, name_of_strength, strength)
        self._is_off = strength == 0  # never a `Strength`, which may be moved
        self._takes_mask = "mask" in inspect.signature(layer.call).parameters

    def build(self, input_shape=None):
        super().build(input_shape)
        if not self._kernels():
            fail("`layer` must have a weight whose name ends in 'kernel'.", layer=self.layer)

    def _kernels(self):
        floats = [v for v in self.layer.weights if keras.backend.is_float_dtype(v.dtype)]
        return [v for v in floats if v.name.endswith("kernel")]

    def call(self, inputs, training=False, mask=None):
        # `training` reaches the wrapped layer by itself, as every argument of the call context does.
        kwargs = {"mask": mask} if mask is not None and self._takes_mask else {}
        if not training or self._is_off:
            return self.layer(inputs, **kwargs)
        # A scope knows no variables of the scope around it: it needs them all.
        variables = self.layer.variables
        scope = keras.StatelessScope(self._values(variables), collect_losses=True)
        before = [scope.get_current_value(v) for v in variables]
        with scope:
            outputs = self.layer(inputs, **kwargs)
        for variable, value in zip(variables, before, strict=True):
            if scope.get_current_value(variable) is not value:
                variable.assign(scope.get_current_value(variable))
        for loss in scope.losses:
            self.add_loss(loss * 1.0)  # a tensor of its own, since the wrapped layer claims the one that it added
        return outputs

    def _values(self, variables):
        """Pairs of a variable and its value in this call."""
        key = self.random.key()
        numbers = {id(kernel): number for number, kernel in enumerate(self._kernels())}
        for variable in variables:
            value = variable.value
            if id(variable) in numbers:
                value = self.disturb(value, fold(key, numbers[id(variable)]), self._strength)
            yield variable, value

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)
