"""The training step, and what Keras calls for each step."""

import keras

from keras_reg._backend._current import BACKEND


class _EagerStateStep:
    """A training step on TensorFlow and PyTorch, where variables hold their state: augment, then the ordinary step."""

    def train_step(self, data):
        return super().train_step(self.augment(*keras.utils.unpack_x_y_sample_weight(data)))

    def call_network(self, inputs, **options):
        return self.model(inputs, **options)


class _StatelessStep:
    """A training step on JAX: the seeds that the augmentation moves on go from the state given to the one passed on."""

    _stateless = False

    def train_step(self, state, data):
        trainable, non_trainable, *others = state
        variables = self.non_trainable_variables
        known = [*zip(self.trainable_variables, trainable, strict=True), *zip(variables, non_trainable, strict=True)]
        with keras.StatelessScope(state_mapping=known) as scope:
            data = self.augment(*keras.utils.unpack_x_y_sample_weight(data))
        moved = [scope.get_current_value(variable) for variable in variables]
        non_trainable = [old if new is None else new for old, new in zip(non_trainable, moved, strict=True)]
        return super().train_step((trainable, non_trainable, *others), data)

    def make_train_function(self, force=False):
        super().make_train_function(force)
        self.train_function = _ReturningState.around(self.train_function, self, optimizer=True, metrics=True)

    def make_test_function(self, force=False):
        super().make_test_function(force)
        self.test_function = _ReturningState.around(self.test_function, self, metrics=True)

    def make_predict_function(self, force=False):
        super().make_predict_function(force)
        self.predict_function = _ReturningState.around(self.predict_function, self)
        return self.predict_function

    def stateless_call(self, *args, **kwargs):
        self._stateless = True
        try:
            return super().stateless_call(*args, **kwargs)
        finally:
            self._stateless = False

    def call_network(self, inputs, **options):
        """In a stateless call by `call`, as Keras does: then no layer inside hears of `training` but by its caller."""
        return (self.model.call if self._stateless else self.model)(inputs, **options)


class _ReturningState:
    """What Keras calls for each step on JAX; where it fails, the variables of the model get their values back.

    Keras takes the values out of the variables before the first step and gives them back after the last, so that an
    error in the first step, as about data that are refused, would leave a model without weights.
    """

    def __init__(self, function, model, optimizer, metrics):
        self.function, self.model, self.optimizer, self.metrics = function, model, optimizer, metrics

    @classmethod
    def around(cls, function, model, optimizer=False, metrics=False):
        return function if isinstance(function, cls) else cls(function, model, optimizer, metrics)

    def __call__(self, state, data):
        try:
            return self.function(state, data)
        except StopIteration:
            raise  # the data have ended
        except Exception:
            for variables, values in zip(self._variables(), state, strict=False):
                for variable, value in zip(variables, values, strict=False):
                    if not value.is_deleted():
                        variable.assign(value)
            raise

    def _variables(self):
        model = self.model
        found = [model.trainable_variables, model.non_trainable_variables]
        found += [model.optimizer.variables] if self.optimizer else []
        return found + ([model.metrics_variables] if self.metrics else [])


AugmentedStep = _StatelessStep if BACKEND == "jax" else _EagerStateStep


def call_train_function(function, optimizer, *args):
    """Calls a train function made with `optimizer`, whose `own_variables` the caller, `fit`, does not know of.

    Under JAX the state of the optimizer is among the arguments and the results: the own variables go in and out here.
    """
    if BACKEND != "jax":
        return function(*args)
    own = optimizer.own_variables
    (*others, known, metrics), iterator = args
    logs, (*others, known, metrics) = function((*others, [*known, *(v.value for v in own)], metrics), iterator)
    for variable, value in zip(own, known[-len(own) :], strict=True):
        variable.assign(value)
    return logs, (*others, known[: -len(own)], metrics)


def admit_optimizer_variables(model, variables):
    """Lets variables behind those of the optimizer pass through a train step that pins the layout of its state.

    Keras 3.10 and 3.11 under JAX do so, by a list that is made at the start of `fit`; later ones need nothing.
    """
    layouts = getattr(model, "_optimizer_variable_shardings", None)
    if layouts:
        known = layouts[: len(model.optimizer.variables)]
        model._optimizer_variable_shardings = [*known, *(v.value.sharding for v in variables)]
