"""The weights that a model has at the end of `fit`, for optimizers that average them (`use_ema=True`)."""

import keras

from keras_reg._optimizers import members


def keeps_averages(optimizer):
    """Returns whether some weights are replaced by their moving averages at the end of `fit`."""
    return any(getattr(member, "use_ema", False) for member in members(optimizer))


def final_weights(model):
    """Returns the weights that the model would have if `fit` ended now, averaged where the optimizer averages."""
    weights = model.get_weights()
    if not keeps_averages(getattr(model, "optimizer", None)):
        return weights
    model.optimizer.finalize_variable_values(model.trainable_variables)
    averaged = model.get_weights()
    model.set_weights(weights)
    return averaged


def averages_from_weights(model):
    """Sets the optimizer's moving averages to the current weights, as at the end of every `fit`.

    Otherwise the averages of later epochs would replace the restored weights when training continues.
    """
    if not keeps_averages(getattr(model, "optimizer", None)):
        return
    averages = {variable.name: variable for variable in model.optimizer.variables}
    for weight in model.trainable_variables:
        average = averages.get(f"{weight.path.replace('/', '_')}_average")
        if average is not None:
            average.assign(keras.ops.convert_to_numpy(weight))  # a copy, since JAX donates both buffers
