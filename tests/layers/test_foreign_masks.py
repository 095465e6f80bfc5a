"""Keras layers that move masks otherwise than images: found by calling them, and told by name."""

import warnings

import keras
import numpy as np
import pytest
from harness import BACKEND
from layers.batches import assert_same_bits, augment

from keras_reg.layers import Pipeline, RandomAffine

# Images that are their own masks.
IMAGES = np.random.default_rng(0).integers(1, 200, (2, 40, 30, 1)).astype("float32")
NEAREST = {"interpolation": "nearest", "seed": 1}
MOVERS = {
    "RandomRotation": lambda: keras.layers.RandomRotation(0.1, fill_mode="constant", **NEAREST),
    "RandomZoom": lambda: keras.layers.RandomZoom(0.3, 0.3, fill_mode="constant", **NEAREST),
    "RandomFlip": lambda: keras.layers.RandomFlip(seed=1),
    "RandomElasticTransform": lambda: keras.layers.RandomElasticTransform((1.0, 1.0), (1.0, 1.0), **NEAREST),
}


if BACKEND == "jax":
    del MOVERS["RandomElasticTransform"]  # seconds of compilation


@pytest.mark.parametrize("name", [name for name in MOVERS if hasattr(keras.layers, name)])
def test_a_warning_tells_which_layers_of_keras_put_masks_elsewhere(name):
    layer = Pipeline([MOVERS[name]()], seed=1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = augment(layer, {"images": IMAGES, "segmentation_masks": IMAGES})
    told = [str(warning.message) for warning in seen if "differently from the pixels" in str(warning.message)]
    elsewhere = (found["images"] != found["segmentation_masks"]).any()
    assert (found["images"] != IMAGES).any()
    assert bool(told) == elsewhere
    assert elsewhere == (name == "RandomElasticTransform" or (name == "RandomRotation" and BACKEND == "torch"))
    if name == "RandomRotation" and told:
        assert "keras_reg.layers.RandomAffine(rotation=...)" in told[0]
        with pytest.warns(UserWarning, match="random_rotation.* moves masks, label maps and pixel weights differently"):
            layer(IMAGES, np.zeros(2), IMAGES[..., 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        augment(layer, IMAGES)  # nothing that could be elsewhere


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_ours_moves_masks_with_the_pixels(dtype):
    layer = RandomAffine(rotation=40, zoom=0.3, interpolation="nearest", seed=1)
    found = augment(Pipeline([layer]), {"images": IMAGES, "segmentation_masks": IMAGES.astype(dtype)})
    assert (found["images"] != IMAGES).any()
    assert_same_bits(found["segmentation_masks"], found["images"].astype(dtype))
