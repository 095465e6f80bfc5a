import keras
import numpy as np
import pytest
from harness import BACKEND, raises_received, to_numpy

from keras_reg.surgery import exclude_from_weight_decay

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
    variables = model.trainable_variables
    optimizer.build(variables)
    zeros = [keras.ops.zeros(v.shape) for v in variables]
    if BACKEND == "jax":
        state = [v.value for v in optimizer.variables]
        after, _ = optimizer.stateless_apply(state, zeros, [v.value for v in variables])
    else:
        optimizer.apply(zeros, variables)
        after = [v.value for v in variables]
    moved = {v.path for v, value in zip(variables, after, strict=True) if not np.allclose(to_numpy(value), 1)}
    assert moved == {v.path for v in variables if v.name in DECAYED}
    assert len(moved) == 10


def test_training_goes_on_from_there():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
    optimizer = exclude_from_weight_decay(keras.optimizers.AdamW(0.0, weight_decay=0.5), model)
    model.compile(optimizer, "mse", jit_compile=False)
    model.layers[0].bias.assign([1.0, 1.0])
    model.optimizer.learning_rate = 0.1
    model.fit(np.zeros((4, 3), "float32"), np.ones((4, 2), "float32"), verbose=0)  # no gradient: x is 0, y is met
    np.testing.assert_allclose(to_numpy(model.layers[0].kernel), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(to_numpy(model.layers[0].bias), 1)


def decaying_model():
    """A kernel and a bias of ones, and data without a gradient: x is 0, and y is met."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
    model.layers[0].bias.assign([1.0, 1.0])
    return model


def step(model):
    """What one step of pure decay leaves of a kernel and a bias of ones."""
    model.layers[0].set_weights([np.ones((3, 2)), np.ones(2)])
    model.fit(np.zeros((4, 3), "float32"), np.ones((4, 2), "float32"), verbose=0)
    return [float(to_numpy(w).ravel()[0]) for w in model.layers[0].weights]


def test_an_optimizer_that_has_trained_keeps_its_state_and_the_compiled_step_follows():
    model = decaying_model()
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), "mse")
    np.testing.assert_allclose(step(model), [0.95, 0.95], rtol=1e-6)
    before = [to_numpy(v).copy() for v in model.optimizer.variables]
    assert exclude_from_weight_decay(model.optimizer, model) is model.optimizer
    for variable, value in zip(model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    np.testing.assert_allclose(step(model), [0.95, 1.0], rtol=1e-6)
    assert int(to_numpy(model.optimizer.iterations)) == 2


def test_the_optimizer_given_to_compile_is_found_behind_the_one_that_scales_the_loss():
    model = decaying_model()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer), "mse")
    np.testing.assert_allclose(step(model), [0.95, 0.95], rtol=1e-6)
    exclude_from_weight_decay(optimizer, model)
    np.testing.assert_allclose(step(model), [0.95, 1.0], rtol=1e-6)


def test_weights_that_are_frozen_now_do_not_decay_later():
    model = decaying_model()
    model.layers[0].trainable = False
    optimizer = exclude_from_weight_decay(keras.optimizers.AdamW(0.1, weight_decay=0.5), model)
    model.layers[0].trainable = True
    model.compile(optimizer, "mse")
    np.testing.assert_allclose(step(model), [0.95, 1.0], rtol=1e-6)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="needs `keras.optimizers.MultiOptimizer`")
def test_every_member_of_several_optimizers_excludes():
    dense = [keras.layers.Dense(3, kernel_initializer="ones", bias_initializer="ones", name=name) for name in "ab"]
    model = keras.Sequential([keras.Input((3,)), *dense])
    of = {name: keras.optimizers.SGD(0.1, weight_decay=0.5) for name in "ab"}
    optimizer = keras.optimizers.MultiOptimizer(lambda variable: of[variable.path.split("/")[-2]])
    with raises_received("optimizer"):
        exclude_from_weight_decay(optimizer, model)
    optimizer.build(model.trainable_variables)
    model.compile(exclude_from_weight_decay(optimizer, model), lambda y_true, y_pred: 0 * y_pred)
    model.fit(np.zeros((4, 3), "float32"), np.ones((4, 3), "float32"), verbose=0)
    found = [float(to_numpy(v).ravel()[0]) for v in model.trainable_variables]
    np.testing.assert_allclose(found, [0.95, 1.0] * 2, rtol=1e-6)


def test_errors():
    model = model_of()
    with raises_received("optimizer"):
        exclude_from_weight_decay("adamw", model)
    for bad in (keras.Sequential([keras.layers.Dense(2)]), "model", model.weights):
        with raises_received("model"):
            exclude_from_weight_decay(keras.optimizers.AdamW(), bad)


def test_scales_of_two_dimensions_do_not_decay():
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, keras.layers.RMSNormalization(axis=[1, 2])(keras.layers.Dense(4)(inputs)))
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape, "float32"))
    model.compile(exclude_from_weight_decay(keras.optimizers.SGD(0.1, weight_decay=0.5), model), weights_alone)
    model.train_on_batch(np.ones((2, 3, 4), "float32"), np.zeros((2, 3, 4), "float32"))
    moved = {v.name for v in model.trainable_variables if not np.allclose(to_numpy(v), 1)}
    assert moved == {"kernel"}


def weights_alone(y_true, y_pred):
    """A loss without a gradient, so that only decay moves the weights."""
    return 0.0 * keras.ops.mean(y_pred)
