"""What layers inside the network say of their dtype is what they return; and they keep what they drew for gradients."""

import keras
import numpy as np
import pytest
from harness import BACKEND, dtype_of, gradients, only, raises_received, to_numpy
from keras import ops
from stochastic import STOCHASTIC

from keras_reg.layers import (
    DropConnect,
    WeightNoise,
)

IMAGES = np.random.default_rng(0).integers(1, 9, (4, 6, 5, 3))
LAYERS = {
    **STOCHASTIC,
    "DropConnect": lambda **k: DropConnect(keras.layers.EinsumDense("abcd,de->abce", (6, 5, 2), **k), 0.5, seed=1),
    "WeightNoise": lambda **k: WeightNoise(keras.layers.Dense(2, **k), 0.5, seed=1),
}
POLICIES = ["float32", "float64", "mixed_float16", "bfloat16"]
# JAX compiles each operation for each dtype.
CASES = [("float64", "float32"), ("bfloat16", "int32")] if BACKEND == "jax" else None


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64:UserWarning")  # JAX without 64 bits
@pytest.mark.parametrize("name", LAYERS)
def test_symbolic_and_eager_dtypes(name):
    cases = CASES or [(policy, dtype) for policy in POLICIES for dtype in ("float16", "float32", "float64", "int32")]
    if name in ("DropConnect", "WeightNoise"):  # whose layers take floats alone
        cases = [case for case in cases if case[1] != "int32"]
    for policy, dtype in cases:
        layer = LAYERS[name](dtype=policy)
        said = layer(keras.Input(IMAGES.shape[1:], dtype=dtype)).dtype
        tensor = ops.cast(IMAGES, dtype)
        for training in (True, False):
            found = layer(tensor, training=training)
            real = "float32" if BACKEND == "jax" and said == "float64" else said  # JAX without x64
            assert dtype_of(found) == real, (policy, dtype, training)
        assert said == keras.DTypePolicy(policy).compute_dtype


@pytest.mark.parametrize("name", ["DropPath", "DropBlock2D", "FractionalMaxPooling2D"])
def test_integers_are_scaled_as_numbers(name):
    """Not by 1 / (1 - rate) cut to a whole number."""
    a, b = (LAYERS[name]()(IMAGES.astype(dtype), training=True) for dtype in ("int32", "float32"))
    np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


@pytest.mark.parametrize("name", ["DropPath", "DropBlock2D", "FractionalMaxPooling2D"])
def test_complex_numbers_are_refused(name):
    layer = LAYERS[name]()
    for training in (True, False):
        with raises_received("complex64"):
            layer(ops.convert_to_tensor(IMAGES.astype("complex64")), training=training)


@only("tensorflow", "torch", why="under JAX, Keras cannot rematerialize what has a `training`")
@pytest.mark.skipif(keras.__version__.startswith("3.10."), reason="the scope makes a model lose its `training`")
@pytest.mark.parametrize("name", ["DropPath", "DropBlock2D"])
def test_a_rematerialized_whole_is_refused(name):
    """Other numbers in the second call would make the gradient another function's; Keras' own dropout does that."""
    with keras.RematScope(mode="full"):
        whole = keras.Sequential([keras.Input(IMAGES.shape[1:]), LAYERS[name]()])
    x = keras.Variable(IMAGES.astype("float32"))
    with pytest.raises(ValueError, match=r"rematerialized as a whole(?s:.*)Received:"):
        gradients(lambda: ops.sum(ops.sin(whole(x * 1.0, training=True))), [x])


@pytest.mark.parametrize("name", ["DropConnect", "WeightNoise"])
def test_wrappers_made_in_a_scope_are_refused_in_training(name):
    with keras.RematScope(mode="full"):
        layer = LAYERS[name]()
    assert layer(IMAGES.astype("float32")).shape
    with raises_received("layer"):
        layer(IMAGES.astype("float32"), training=True)
