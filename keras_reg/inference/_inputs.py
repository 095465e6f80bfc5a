import keras


def inputs_like(model, x=None):
    """Returns new inputs like those of a model, or like data if the model has not stated them."""
    if getattr(model, "inputs", None):
        given = model.input if isinstance(model, keras.Function) else model.inputs[0]
        return keras.tree.map_structure(
            lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name), given
        )
    return keras.tree.map_structure(
        lambda array: keras.Input(array.shape[1:], dtype=None if array.dtype.kind == "f" else array.dtype.name), x
    )
