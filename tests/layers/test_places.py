"""The same numbers give the same pictures within rounding, wherever a layer runs.

Each place draws with a generator of its own: TensorFlow's, JAX's, PyTorch's and NumPy's. Under `one_table`, all of
them give the same numbers, so that only the arithmetic of the places differs. The reference is NumPy's, in a thread, as
Grain calls a layer. No backend takes part in it: what agrees with it under each backend agrees between the backends.
"""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, jit, only, to_numpy
from layers.batches import assert_same_bits, augment
from layers.policies import photo

from keras_reg.layers import (
    AugMix,
    AutoAugment,
    ColorJitter,
    Pipeline,
    RandAugment,
    RandomAffine,
    RandomErasing,
    RandomFlip,
    RandomPadCrop,
    TrivialAugmentWide,
)
from keras_reg.training import RegularizedModel

COUNT, HEIGHT, WIDTH = 16, 10, 7  # an even and an odd size: no pixel is turned to the border between two others
RNG = np.random.default_rng(0)
# Each column has a number in each sixteenth of [0, 1), so that every operation of a policy is drawn.
TABLE = (RNG.permuted(np.tile(np.arange(COUNT), (40, 1)), axis=1).T + RNG.random((COUNT, 40))) / COUNT
TABLE = TABLE.astype("float32")
SEEDED = np.random.default_rng
FEW = 0.005  # the share of the values of uint8 pixels that may be one level away


@pytest.fixture
def one_table(monkeypatch):
    """Uniform numbers are those of `TABLE`, whatever the key: as many rows and columns of it as are drawn."""
    import tensorflow as tf

    variable = tf.Variable(TABLE)  # which TensorFlow does not fold into constants, as it would not fold what is drawn

    class Generator:
        def random(self, shape, dtype):
            return rows(shape).astype(dtype)

    def rows(shape):
        return TABLE[: shape[0], : shape[1]]

    def of_seed(seed=None):
        return Generator() if isinstance(seed, np.random.SeedSequence) else SEEDED(seed)

    monkeypatch.setattr(np.random, "default_rng", of_seed)
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, *_, **__: variable[:, : shape[1]][: shape[0]])
    if BACKEND == "jax":
        import jax

        monkeypatch.setattr(jax.random, "uniform", lambda key, shape, *_, **__: jax.numpy.asarray(rows(shape)))
    if BACKEND == "torch":
        import torch

        monkeypatch.setattr(torch, "rand", lambda shape, device=None, **_: torch.tensor(rows(shape), device=device))


def warp(**options):
    return RandomAffine(25, 0.2, 0.3, 0.2, mask_fill=3, **options)


# RandAugment has all operations, the other policies a few of them: what they draw and mix is their own.
LAYERS = {
    "RandomAffine": lambda seed=1, value_range=None, **k: warp(seed=seed, **k),
    "fused Pipeline": lambda seed=1, value_range=None, **k: Pipeline(
        [RandomFlip(**k), warp(rate=0.7, **k), RandomPadCrop(3, mask_fill=3, **k)], seed=seed, **k
    ),
    "RandAugment": lambda seed=1, **k: RandAugment(mask_fill=3, seed=seed, **k),
    "AutoAugment": lambda seed=1, **k: AutoAugment(
        [[["shear_x", 0.8, 9], ["contrast", 0.7, 6]], [["solarize", 0.9, 4], ["translate_y", 0.8, 3]]], seed=seed, **k
    ),
    "TrivialAugmentWide": lambda seed=1, **k: TrivialAugmentWide(
        operations=["rotate", "translate_x", "color", "posterize", "equalize"], seed=seed, **k
    ),
    "AugMix": lambda seed=1, **k: AugMix(width=2, depth=2, operations=["rotate", "color"], seed=seed, **k),
    "ColorJitter": lambda seed=1, **k: ColorJitter(0.4, 0.4, 0.4, 0.1, seed=seed, **k),
}
BOTH = ["float32", "uint8"]
# Where a graph is traced or compiled, these policies have one of both: what computes with pixels stands in RandAugment.
ONE = {"AutoAugment": ["uint8"], "TrivialAugmentWide": ["float32"], "AugMix": ["uint8"]}


def made(name, dtype="uint8", **options):
    return LAYERS[name](value_range=None if dtype == "uint8" else (0, 1), **options)


def example(name, dtype, height=HEIGHT, width=WIDTH):
    """Images in [0, 1] or uint8, and all that goes along with the pixels, with points beside the image."""
    rng = SEEDED(1)
    images = np.stack([photo(height, width, seed=seed) for seed in range(COUNT)])
    if dtype == "float32":  # between the levels, where a step of "posterize" is not near
        images = (images / 255 + rng.uniform(0.001, 0.003, images.shape)).astype(dtype)
    if name == "AugMix":  # which refuses what moves
        return {"images": images}
    masks = rng.integers(1, 9, (COUNT, height, width)).astype("int32")
    corners = np.sort(rng.random((COUNT, 4, 2, 2)) * [width, height], axis=2).reshape(COUNT, 4, 4)
    return {
        "images": images,
        "segmentation_masks": masks,
        "sample_weights": masks.astype("float32"),
        "bounding_boxes": {"boxes": corners.astype("float32"), "classes": np.tile(np.arange(4), (COUNT, 1))},
        "keypoints": (rng.random((COUNT, 5, 2)) * [width + 2, height + 2] - 1.5).astype("float32"),
    }


def without_points(data):
    """Less to compile: the maps and calls show that points agree."""
    return {name: value for name, value in data.items() if name not in ("bounding_boxes", "keypoints")}


def part(data, start=0, stop=COUNT):
    return keras.tree.map_structure(lambda array: array[start:stop], data)


def in_a_thread(layer, data, **options):
    """The reference: arrays stay with NumPy in a thread that is not the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: layer(data, **options)).result()


def reference(name, dtype, data, index=2):
    found = in_a_thread(made(name, dtype), data, index=index)
    assert isinstance(found["images"], np.ndarray)
    assert (found["images"] != data["images"]).any((1, 2, 3)).mean() > 0.6
    return found


def assert_alike(found, expected):
    """Masks and weights are equal, since no position is near a tie, and points are within 1e-3 of a pixel.

    Float pixels are within 1e-4 of the range. A uint8 pixel is a float that is rounded or cut off at the end: where it
    is near a tie or a whole number, a rounding before it gives the next level. That is rare, and never two levels.
    """
    found, expected = to_numpy(found), to_numpy(expected)
    images, others = found.pop("images"), {**expected}
    assert images.dtype == others["images"].dtype
    assert_pictures_alike(images, others.pop("images"))
    keras.tree.assert_same_structure(found, others)
    for name in ("segmentation_masks", "sample_weights"):
        if name in others:
            assert_same_bits(found.pop(name), others.pop(name))
    assert_close(found, others, rtol=0, atol=1e-3)


def assert_pictures_alike(found, expected):
    assert found.shape == expected.shape
    away = np.abs(found.astype("float64") - expected.astype("float64"))
    if expected.dtype == "uint8":
        assert away.max() <= 1 and (away > 0).mean() <= FEW, f"{away.max()} levels, {(away > 0).mean():.2%} of all"
    else:
        assert away.max() <= 1e-4, away.max()


def map_with_index(layer, data, size, **options):
    """A tf.data map over batches whose size is not known to the graph, with their index; the last one is smaller."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(data).batch(size).enumerate()
    assert dataset.element_spec[1]["images"].shape[0] is None
    return list(dataset.map(lambda i, batch: layer(batch, index=i), **options).as_numpy_iterator())


# One table.


@pytest.mark.usefixtures("one_table")
@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name in LAYERS for dtype in ONE.get(name, BOTH)])
def test_a_map_gives_the_pictures_of_numpy(name, dtype):
    data = example(name, dtype)
    found = map_with_index(made(name, dtype), data, 6)
    assert [len(batch["images"]) for batch in found] == [6, 6, 4]
    for i, batch in enumerate(found):
        assert_alike(batch, reference(name, dtype, part(data, 6 * i, 6 * i + 6), i))


@pytest.mark.usefixtures("one_table")
def test_a_map_of_larger_images_is_compiled_and_gives_the_pictures_of_numpy():
    def layer():
        policy = TrivialAugmentWide(operations=["rotate"])
        return Pipeline([*made("fused Pipeline").layers, policy], seed=1)

    data = without_points(example("all", "uint8", 20, 15))
    for i, batch in enumerate(map_with_index(layer(), data, 8)):
        assert_alike(batch, in_a_thread(layer(), part(data, 8 * i, 8 * i + 8), index=i))


@pytest.mark.usefixtures("one_table")
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("name", LAYERS)
def test_a_call_on_arrays_gives_the_pictures_of_numpy(name, dtype):
    """In the main thread, where the backend takes them."""
    data = example(name, dtype)
    found = made(name, dtype)(data, index=2)
    assert keras.ops.is_tensor(found["images"])
    assert_alike(found, reference(name, dtype, data))


@only("tensorflow", "jax", why="PyTorch's step is eager")
@pytest.mark.usefixtures("one_table")
@pytest.mark.parametrize(("name", "dtype"), list(zip(LAYERS, [*BOTH * 3, "uint8"], strict=True)))
def test_a_compiled_call_gives_the_pictures_of_numpy(name, dtype):
    layer, data = made(name, dtype), without_points(example(name, dtype))
    compiled = jit(lambda batch: layer(batch, index=2), layer, xla=True)
    found = compiled(keras.tree.map_structure(keras.ops.convert_to_tensor, data))
    assert_alike(found, reference(name, dtype, data))


@pytest.mark.usefixtures("one_table")
@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_of_one_and_channels_first_give_the_pictures_of_numpy(name):
    """The first image of the batch alone, and the whole batch in the other layout."""
    data = example(name, "float32")
    expected = reference(name, "float32", data)
    assert_alike(augment(made(name, "float32"), part(data, 0, 1), index=2), part(expected, 0, 1))

    def turned(batch):
        return {**batch, "images": batch["images"].transpose(0, 3, 1, 2)}

    layer = made(name, "float32", data_format="channels_first")
    assert_alike(augment(layer, turned(data), index=2), turned(expected))


# The numbers themselves.


def mover_and_policy(seed=1):
    """Layers that are fused, and a policy behind them."""
    return Pipeline([RandomFlip(), warp(), RandAugment(1, operations=["rotate", "color"])], seed=seed)


def test_with_its_index_a_batch_is_the_same_in_a_map_and_in_a_call():
    """Whatever is mapped beside it. With the TensorFlow backend, arrays and compiled calls draw these numbers, too."""
    import tensorflow as tf

    data, layer = without_points(example("all", "uint8")), mover_and_policy()
    compiled = jit(lambda batch, i: layer(batch, index=i), layer)
    for i, batch in enumerate(map_with_index(mover_and_policy(), data, 8, num_parallel_calls=3)):
        given = part(data, 8 * i, 8 * i + 8)
        tensors = keras.tree.map_structure(tf.constant, given)
        assert_alike(batch, layer(tensors, index=i))
        if BACKEND == "tensorflow":
            assert_alike(batch, layer(given, index=i))
    if BACKEND == "tensorflow":
        assert_alike(batch, compiled(tensors, tf.constant(i)))


# A training.


class Records(keras.layers.Layer):
    """Keeps the batches that a training has passed through it, as floats."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def build(self, input_shape):
        options = {"initializer": "zeros", "trainable": False, "dtype": "float32"}
        self.seen = self.add_weight((self.batches, *input_shape), **options)

    def call(self, inputs, training=False):
        inputs = keras.ops.cast(inputs, "float32")
        if training:
            self.seen.assign(keras.ops.concatenate([self.seen[1:], inputs[None]]))
        return inputs


def pictures_of_a_training(augmentation, images, size):
    """The batches that the network sees in one epoch."""
    records = Records(len(images) // size)
    head = [keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer="ones")]
    network = keras.Sequential(
        [keras.Input(images.shape[1:], batch_size=size, dtype=images.dtype.name), records, *head]
    )
    model = RegularizedModel(network, augmentation)
    model.compile("sgd", "mse")
    model.fit(images, np.zeros((len(images), 1), "float32"), batch_size=size, shuffle=False, verbose=0)
    return to_numpy(records.seen)


@pytest.mark.usefixtures("one_table")
@pytest.mark.parametrize(("name", "dtype"), [("fused Pipeline", "float32"), ("RandAugment", "uint8")])
def test_a_training_sees_the_pictures_of_numpy(name, dtype):
    images = example(name, dtype)["images"]
    found = pictures_of_a_training(made(name, dtype), images, 8)
    for i, batch in enumerate(found):
        given = images[8 * i : 8 * i + 8]
        expected = in_a_thread(made(name, dtype), given)
        assert (expected != given).any((1, 2, 3)).mean() > 0.6
        assert_pictures_alike(batch.astype(dtype), expected)


def test_a_training_draws_what_as_many_compiled_calls_draw_from_the_same_seed():
    images = example("images", "uint8")["images"]
    found = pictures_of_a_training(mover_and_policy(seed=5), images, 4)
    layer = mover_and_policy(seed=5)
    call = jit(lambda batch: layer(batch), layer)
    for batch, start in zip(found, range(0, COUNT, 4), strict=True):
        given = keras.ops.convert_to_tensor(images[start : start + 4])
        assert_pictures_alike(batch.astype("uint8"), to_numpy(call(given)))


@only("jax", "tensorflow")
def test_tensors_of_pytorch_in_bfloat16_under_another_backend():
    torch = pytest.importorskip("torch")
    images = torch.rand(2, 8, 8, 3)
    assert RandomFlip(seed=1)(images.bfloat16()).dtype == torch.float32
    erased = RandomErasing(1.0, seed=1, dtype="bfloat16")(images)
    assert erased.dtype == torch.bfloat16
    expected = RandomErasing(1.0, seed=1)(images)
    assert_close(erased.float().numpy(), expected.bfloat16().float().numpy())


@only("torch")
@pytest.mark.parametrize(
    "layer",
    [
        RandomFlip(rate=1.0, seed=1),
        RandomErasing(1.0, seed=1),
        RandomPadCrop(2, seed=1),
        RandomAffine(20, seed=1),
        RandAugment(value_range=(0, 1), seed=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_derivatives_of_every_kind_pass_through(layer):
    """NumPy, which computes the other calls, would lose tangents, and cannot read tensors inside `torch.func`."""
    import torch

    images = torch.rand(8, 8, 8, 3)
    tracked = images.clone().requires_grad_(True)
    layer(tracked, index=0).sum().backward()
    gradients = torch.func.grad(lambda x: layer(x, index=0).sum())(images)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(images, torch.ones_like(images))
        found, tangent = torch.autograd.forward_ad.unpack_dual(layer(dual, index=0))
    assert_close(found.numpy(), layer(images, index=0).numpy(), atol=1e-5)
    assert_close(gradients.numpy(), tracked.grad.numpy(), atol=1e-5)
    assert_close(tangent.sum().item(), tracked.grad.sum().item(), rtol=1e-5)
