"""An optimizer around the user's optimizer, which measures the gradients of a training step first."""

import keras
from keras import ops


class WatchingOptimizer(keras.optimizers.Optimizer):
    """Passes the gradients to `statistics`, then to `inner_optimizer`, whose place it takes in all other respects.

    With `updates=False` the gradients are only measured: nothing is updated.
    """

    def __init__(self, inner_optimizer, statistics, updates=True):
        super().__init__(learning_rate=0.0, name="watching_optimizer")
        self.inner_optimizer = inner_optimizer
        self.statistics = statistics
        self.updates = updates

    def build(self, variables):
        if self.updates and not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        for statistics in self.statistics:
            if statistics.rows is None:
                statistics.build(variables)
        super().build(variables)

    @property
    def own_variables(self):
        return [variable for statistics in self.statistics for variable in statistics.variables]

    @property
    def variables(self):
        return [*self.inner_optimizer.variables, *self.own_variables]

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not self.built:
            self.build(variables)
        self._show(grads, variables)
        if self.updates:
            self.inner_optimizer.apply(grads, trainable_variables)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        with keras.StatelessScope(list(zip(self.variables, optimizer_variables, strict=True))) as scope:
            self._show(grads, self._trainable_variables)
        own = [scope.get_current_value(variable) for variable in self.own_variables]
        inner = list(optimizer_variables[: len(self.inner_optimizer.variables)])
        if self.updates:
            trainable_variables, inner = self.inner_optimizer.stateless_apply(inner, grads, trainable_variables)
        return trainable_variables, [*inner, *own]

    def _show(self, grads, variables):
        optimizer = self.inner_optimizer
        skips = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if skips:
            scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        else:
            scale = optimizer.loss_scale_factor or 1.0
        for statistics in self.statistics:
            statistics.update(grads, variables, ops.convert_to_tensor(scale, "float32"), skips)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def __getattr__(self, name):
        if name.startswith("_") or name == "inner_optimizer":
            raise AttributeError(name)
        return getattr(self.inner_optimizer, name)
