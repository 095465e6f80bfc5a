import keras
import numpy as np
import pytest
from harness import raises_received, to_numpy

from keras_reg import surgery

exclude_from_weight_decay = getattr(surgery, "exclude_from_weight_decay", None)
pytestmark = pytest.mark.skipif(exclude_from_weight_decay is None, reason="not public yet")

DECAYED = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "embeddings")


def model_of():
    """Biases of one and two dimensions, two normalizations, and kernels of all kinds."""
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4)(inputs)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.LayerNormalization()(x)
    x = layers.GRU(4, return_sequences=True)(x)
    x = layers.SeparableConv1D(4, 2)(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(2)(layers.PReLU(shared_axes=[1])(layers.Flatten()(x))))


@pytest.mark.parametrize("wrapped", [False, True])
def test_one_step_without_a_gradient_moves_what_decays_and_nothing_else(wrapped):
    """The oracle is the optimizer: gradients are 0, so that only decay can move a weight."""
    model = model_of()
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape, "float32"))
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    if wrapped:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0)
    assert exclude_from_weight_decay(optimizer, model) is optimizer
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    moved = {v.path for v in model.trainable_variables if not np.allclose(to_numpy(v), 1)}
    assert moved == {v.path for v in model.trainable_variables if v.name in DECAYED}
    assert len(moved) == 10


def test_errors():
    model = model_of()
    optimizer = keras.optimizers.AdamW()
    optimizer.build(model.trainable_variables)
    with raises_received("optimizer"):
        exclude_from_weight_decay(optimizer, model)
    with raises_received("optimizer"):
        exclude_from_weight_decay("adamw", model)
    with raises_received("model"):
        exclude_from_weight_decay(keras.optimizers.AdamW(), keras.Sequential([keras.layers.Dense(2)]))
