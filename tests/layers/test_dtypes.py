"""What comes out of a layer of layers has its compute dtype, whatever those of its layers: eagerly and symbolically."""

import itertools

import keras
import numpy as np
import pytest
from harness import BACKEND, dtype_of, jit, to_numpy
from layers.batches import AUGMENTATIONS

from keras_reg.layers import (
    CutMix,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomPadCrop,
    RandomResizedCrop,
)

PLAIN = ("RandomErasing", "RandomPadCrop", "MixUp", "PCAColorJitter", "RandomResizedCrop")
PARTS = {
    **{name: AUGMENTATIONS[name] for name in PLAIN},
    "keras moving": lambda dtype: keras.layers.RandomFlip(dtype=dtype),
    "keras colours": lambda dtype: keras.layers.Rescaling(0.5, dtype=dtype),
    "keras still": lambda dtype: keras.layers.Identity(dtype=dtype),
    "nested": lambda dtype: Pipeline([RandomErasing(1.0, dtype=dtype), keras.layers.Rescaling(0.5)], dtype=dtype),
}
COMPOSITES = {
    "pipeline": lambda part, dtype: Pipeline([part], dtype=dtype),
    "pipeline of two": lambda part, dtype: Pipeline([part, RandomErasing(dtype="float32")], dtype=dtype),
    "choice": lambda part, dtype: RandomChoice([part, RandomErasing(dtype="float32")], dtype=dtype),
    "choice of mixers": lambda part, dtype: RandomChoice([CutMix(dtype="float32"), MixUp()], dtype=dtype),
    "apply": lambda part, dtype: RandomApply(part, dtype=dtype),
}
ROWS = [
    (composite, part)
    for composite, part in itertools.product(COMPOSITES, PARTS)
    if composite != "choice of mixers" or part == "MixUp"
]


def images(dtype):
    return (np.random.default_rng(0).random((4, 8, 6, 3)) * 100).astype(dtype)


LABELS = np.eye(4, dtype="float32")  # which a mixer in a model must see


def result_of(layer, x, training, part):
    """The images that a call returns, or on JAX what its trace says of them, which compiles nothing."""
    if BACKEND == "jax" and part != "keras moving":  # whose seeds a trace would spoil
        import jax

        return jax.eval_shape(lambda x: layer((x, LABELS), training=training, index=0)[0], x)
    return layer((x, LABELS), training=training)[0]


def symbolic_result_of(layer, x, **kwargs):
    return layer((keras.Input(x.shape[1:], dtype=x.dtype.name), keras.Input((4,))), **kwargs)[0]


@pytest.mark.parametrize(("composite", "part"), ROWS)
def test_symbolic_and_eager_calls_agree(composite, part):
    pairs = [("float32", "float16"), ("mixed_bfloat16", "float32"), ("float16", "mixed_bfloat16")]
    for of_whole, of_part in pairs[:1] if part == "keras moving" else pairs:
        layer = COMPOSITES[composite](PARTS[part](dtype=of_part), of_whole)
        for given, training in itertools.product(("float32", "uint8"), (True, False)):
            x = images(given)
            symbolic = symbolic_result_of(layer, x, training=training)
            found = result_of(layer, x, training, part)
            assert dtype_of(found) == symbolic.dtype, (of_whole, of_part, given, training)
            assert tuple(found.shape)[1:] == symbolic.shape[1:]
            if training and given == "float32":
                assert dtype_of(found) == layer.compute_dtype


@pytest.mark.parametrize("given", ["float32", "uint8"])
def test_compiled_calls_agree_too(given):
    parts = [PARTS[name](dtype="float16") for name in ("RandomErasing", "MixUp", "keras colours")]
    layer = Pipeline(parts, dtype="float32", seed=0)
    x = images(given)
    compiled = jit(lambda x: layer((x, LABELS))[0], layer)
    assert dtype_of(compiled(x)) == dtype_of(layer(x)) == symbolic_result_of(layer, x).dtype


def test_a_layer_of_layers_computes_in_its_own_dtype():
    """A part in float16 would lose ten bits of these pixels."""
    x = images("float32") + np.float32(2**-12)
    for part in (RandomPadCrop(0, dtype="float16"), MixUp(rate=0.0, dtype="float16")):
        np.testing.assert_array_equal(to_numpy(Pipeline([part], dtype="float32")(x)), x)
        np.testing.assert_array_equal(to_numpy(RandomApply(part, rate=1.0, dtype="float32")(x)), x)
    resized = Pipeline([RandomResizedCrop((8, 6), dtype="float16")], dtype="float32")
    np.testing.assert_allclose(to_numpy(resized(x, training=False)), x, rtol=1e-6)


def test_a_choice_is_the_identity_in_inference():
    layer = RandomChoice([keras.layers.Rescaling(2.0), PCAColorJitter()])
    np.testing.assert_array_equal(to_numpy(layer(images("float32"), training=False)), images("float32"))


@pytest.mark.parametrize("training", [True, False])
def test_sizes_that_change_are_known_in_inference_too(training):
    layer = Pipeline([RandomErasing(), RandomResizedCrop((5, 4))])
    assert layer(keras.Input((8, 6, 3)), training=training).shape == (None, 5, 4, 3)
    assert layer.compute_output_shape((None, 8, 6, 3)) == (None, 5, 4, 3)
    assert layer.compute_output_shape({"images": (2, 8, 6, 3), "labels": (2,)})["images"] == (2, 5, 4, 3)


@pytest.mark.skipif(BACKEND == "torch", reason="no graph of TensorFlow or JAX")
def test_a_model_with_parts_of_another_dtype_predicts():
    inputs = keras.Input((8, 6, 3))
    x = Pipeline([RandomErasing(dtype="float16"), keras.layers.Rescaling(0.5, dtype="float16")])(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    assert model.predict(images("float32"), verbose=0).shape == (4, 144)
