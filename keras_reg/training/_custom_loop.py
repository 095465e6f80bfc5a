from keras_reg import _backend
from keras_reg._validation import fail


def check_scope(model, method, tensors):
    """Checks that a step which JAX traces calls a method of the model where its variables have traced values.

    Elsewhere, penalties would have no gradient, `sharpness` would use the weights at the time of tracing, and each step
    would draw the same random numbers.
    """
    if _backend.is_traced_apart(tensors, model.variables):
        fail(
            f"`{method}` must be called inside a `keras.StatelessScope` with the variables of the model, in a function "
            "that JAX compiles or differentiates. See the section on custom loops in the documentation of the training "
            "step.",
            model=type(model).__name__,
        )
