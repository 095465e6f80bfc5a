"""The steps of a network inside a model around it, and a loss that is computed in the scope of the forward pass."""

import keras

from keras_reg._backend._current import BACKEND

STATE = ("trainable_variables", "non_trainable_variables")
ARGUMENTS = {
    "train_step": (*STATE, "optimizer_variables", "metrics_variables"),
    "test_step": (*STATE, "metrics_variables"),
    "predict_step": STATE,
}


def run_step_of(model, network, step, *state_and_data):
    """Runs a step of the network. On JAX, the network gets and returns its part of the state of the model."""
    if BACKEND != "jax":
        return getattr(network, step)(*state_and_data)
    state, data = state_and_data
    variables = [_variables(model, name) for name in ARGUMENTS[step]]
    values = {
        id(variable): value
        for group, of_group in zip(variables, state, strict=True)
        for variable, value in zip(group, of_group, strict=True)
    }
    inner = [_variables(network, name) for name in ARGUMENTS[step]]
    result, moved = getattr(network, step)(tuple([values[id(v)] for v in group] for group in inner), data)
    if step == "predict_step":  # it returns only the variables that may have moved
        inner, variables, moved = inner[1:], variables[1:], (moved,)
    for group, of_group in zip(inner, moved, strict=True):
        values |= {id(variable): value for variable, value in zip(group, of_group, strict=True)}
    state = tuple([values[id(variable)] for variable in group] for group in variables)
    return result, state[0] if step == "predict_step" else state


def _variables(model, name):
    return model.optimizer.variables if name == "optimizer_variables" else getattr(model, name)


class _LossInOneScope:
    """Computes the loss of a network in the scope of its forward pass.

    Keras uses two scopes, and hands the losses of the forward pass only to the model itself, not to a network in it
    whose `compute_loss` reads them.
    """

    def compute_loss_and_updates(
        self,
        trainable_variables,
        non_trainable_variables,
        metrics_variables,
        x,
        y,
        sample_weight,
        training=False,
        optimizer_variables=None,
    ):
        state = trainable_variables, non_trainable_variables, metrics_variables
        if not self.has_own_loss:
            return super().compute_loss_and_updates(*state, x, y, sample_weight, training, optimizer_variables)
        groups = self.trainable_variables, self.non_trainable_variables, self.metrics_variables
        known = [pair for group, values in zip(groups, state, strict=True) for pair in zip(group, values, strict=True)]
        with keras.StatelessScope(known, collect_losses=True) as scope:
            y_pred = self.call_statelessly(x, training)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        moved = [[scope.get_current_value(variable) for variable in group] for group in groups[1:]]
        scaled = loss
        if training and self.optimizer is not None:
            with keras.StatelessScope(list(zip(self.optimizer.variables, optimizer_variables, strict=True))):
                scaled = self.optimizer.scale_loss(loss)
        return scaled, (loss, y_pred, *moved)


class _LossInOpen:
    """Variables hold their state, so Keras computes every loss outside of a scope."""


OneScopeLoss = _LossInOneScope if BACKEND == "jax" else _LossInOpen
