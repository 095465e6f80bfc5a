"""The weights that a model has at the end of `fit`, under optimizers that average them."""

import keras

from keras_reg._optimizers import members


def keeps_averages(optimizer):
    """Whether some weights will be replaced by their moving averages at the end of `fit` (`use_ema=True`)."""
    return any(getattr(member, "use_ema", False) for member in members(optimizer))


def final_weights(model):
    """The weights that the model would have if `fit` ended now: averaged where the optimizer keeps averages."""
    weights = model.get_weights()
    if not keeps_averages(getattr(model, "optimizer", None)):
        return weights
    model.optimizer.finalize_variable_values(model.trainable_variables)
    averaged = model.get_weights()
    model.set_weights(weights)
    return averaged


def averages_from_weights(model):
    """Makes the optimizer's moving averages equal to the weights, as they are after `fit`, so that training can go on.

    Without this, averages of later epochs would soon replace restored weights.
    """
    if not keeps_averages(getattr(model, "optimizer", None)):
        return
    averages = {variable.name: variable for variable in model.optimizer.variables}
    for weight in model.trainable_variables:
        average = averages.get(f"{weight.path.replace('/', '_')}_average")
        if average is not None:
            average.assign(keras.ops.convert_to_numpy(weight))  # a copy: JAX donates both buffers
