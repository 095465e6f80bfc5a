"""The training step, and the functions that Keras calls for each step."""

import sys

import keras

from keras_reg._backend._current import BACKEND
from keras_reg._backend._process_state import framework_random_state
from keras_reg._backend._random import given_keys, random_sources


class _EagerStateStep:
    """A training step on TensorFlow and PyTorch, where variables hold their state.

    It augments the batch and then takes the ordinary step.
    """

    def train_step(self, data):
        x, *others = self.augment(*keras.utils.unpack_x_y_sample_weight(data))
        with self.mixed_inside(x) as x:
            return self._train_on_augmented(self.data_of_step(data, x, *others))

    def _train_on_augmented(self, data):
        if not self.takes_further_passes:
            return super().train_step(data)
        before = [(variable, keras.ops.copy(variable)) for variable in self.variables_that_passes_move()]
        of_penalties = [variable for penalty in self.penalties for variable in penalty.variables]
        apart = {id(variable) for variable in (*of_penalties, *getattr(self.augmentation, "variables", ()))}
        of_network = _keys([variable for variable, _ in before if id(variable) not in apart])
        passes = self.further_passes(data, before, framework_random_state(), of_network, _keys(of_penalties))
        with passes, given_keys(of_network):
            return super().train_step(data)

    def call_again(self, inputs):
        """Calls the model as the first pass of a step does."""
        return self(inputs, training=True) if self._call_has_training_arg else self(inputs)

    def call_network(self, inputs, **options):
        return self.current_network()(inputs, **options)


def _keys(variables):
    """Returns (source, key for this step) for the random sources whose generator states are among these variables."""
    return [(source, source.key()) for source in random_sources(variables)]


class KeepsStateAfterErrors:
    """A mixin for models that keep the values of their variables if an error is raised in a step, also on JAX."""


class _RestoresState(KeepsStateAfterErrors):
    """The mixin on JAX."""

    def make_test_function(self, force=False):
        super().make_test_function(force)
        self.test_function = _ReturningState.around(self.test_function, self, metrics=True)

    def make_predict_function(self, force=False):
        super().make_predict_function(force)
        self.predict_function = _ReturningState.around(self.predict_function, self)
        return self.predict_function


class _StatelessStep(_RestoresState):
    """A training step on JAX, where the state is an argument.

    The augmentation reads its seeds from this state, and the ordinary step receives the state with the new seeds.
    """

    _stateless = False

    def train_step(self, state, data):
        trainable, non_trainable, *others = state
        variables = self.non_trainable_variables
        known = [*zip(self.trainable_variables, trainable, strict=True), *zip(variables, non_trainable, strict=True)]
        with keras.StatelessScope(state_mapping=known) as scope:
            x, *others_of_data = self.augment(*keras.utils.unpack_x_y_sample_weight(data))
        moved = [scope.get_current_value(variable) for variable in variables]
        non_trainable = [old if new is None else new for old, new in zip(non_trainable, moved, strict=True)]
        with self.mixed_inside(x) as x:
            data = self.data_of_step(data, x, *others_of_data)
            return self._train_on_augmented((trainable, non_trainable, *others), data)

    def _train_on_augmented(self, state, data):
        if not self.takes_further_passes:
            return super().train_step(state, data)
        known = [*zip(self.non_trainable_variables, state[1], strict=True)]
        with self.further_passes(data, known):
            return super().train_step(state, data)

    def call_again(self, inputs):
        """Calls the model as the first pass of a step does, which is stateless."""
        return self.call_statelessly(inputs, training=True)

    def call_statelessly(self, inputs, training):
        """Calls the model in a scope that has its state."""
        self._stateless = True
        try:
            return self.call(inputs, training=training) if self._call_has_training_arg else self.call(inputs)
        finally:
            self._stateless = False

    def make_train_function(self, force=False):
        super().make_train_function(force)
        self.train_function = _ReturningState.around(self.train_function, self, optimizer=True, metrics=True)

    def stateless_call(self, *args, **kwargs):
        self._stateless = True
        try:
            return super().stateless_call(*args, **kwargs)
        finally:
            self._stateless = False

    def call_network(self, inputs, **options):
        """Calls the network. In a stateless call, `call` is used, as Keras does.

        Then the layers inside get `training` only from the code that calls them.
        """
        network = self.current_network()
        return (network.call if self._stateless else network)(inputs, **options)


class _ReturningState:
    """The function that Keras calls for each step on JAX. If it fails, it restores the variables of the model.

    Keras takes the values out of the variables before the first step and puts them back after the last one. Without
    this class, an error in the first step, for example about invalid data, or an interruption while it is compiled
    would leave the model without weights.
    """

    def __init__(self, function, model, optimizer, metrics):
        self.function, self.model, self.optimizer, self.metrics = function, model, optimizer, metrics

    @classmethod
    def around(cls, function, model, optimizer=False, metrics=False):
        if isinstance(function, cls) or hasattr(function, "plain"):  # or a callback's function around such a one
            return function
        return cls(function, model, optimizer, metrics)

    def __call__(self, state, data):
        try:
            return self.function(state, data)
        except StopIteration:
            raise  # the end of the data
        except BaseException:
            for variables, values in zip(self._variables(), state, strict=False):
                for variable, value in zip(variables, values, strict=False):
                    if not _is_traced(value) and not value.is_deleted():
                        variable.assign(value)
            raise

    def _variables(self):
        model = self.model
        found = [model.trainable_variables, model.non_trainable_variables]
        found += [model.optimizer.variables] if self.optimizer else []
        return found + ([model.metrics_variables] if self.metrics else [])


def is_traced_apart(tensors, variables):
    """Whether JAX traces a computation of these tensors, but the variables have constant values in it.

    This is so outside of the `keras.StatelessScope` of a step. Gradients do not see what is then computed from the
    variables, and updates of them are lost.
    """
    if BACKEND != "jax" or not any(map(_is_traced, keras.tree.flatten(tensors))):
        return False
    return not any(_is_traced(_value_of(variable)) for variable in variables)


def _is_traced(value):
    return isinstance(value, sys.modules["jax"].core.Tracer)


def _value_of(variable):
    """Returns the value of a variable, or `None` where Keras has taken it out for the steps of `fit`."""
    try:
        return variable.value
    except TypeError:
        return None


def is_seed(variable):
    """Whether a variable holds the state of a random generator, or another counter."""
    return not keras.backend.is_float_dtype(variable.dtype)


AugmentedStep = _StatelessStep if BACKEND == "jax" else _EagerStateStep
if BACKEND == "jax":
    KeepsStateAfterErrors = _RestoresState  # type: ignore[misc]
