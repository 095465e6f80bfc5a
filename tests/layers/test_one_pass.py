"""The fast ways over the pixels, compiled as one program or box by box on the host, beside the plain operations."""

import copy
import functools
import pickle
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, fewer, map_in_tf_data, only, to_numpy
from layers.batches import MIXERS, assert_same_bits

import keras_reg
from keras_reg.layers import (
    AugMix,
    ColorJitter,
    CutMix,
    LabelNoise,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandAugment,
    RandomAffine,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomFlip,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomGrayscale,
    RandomPadCrop,
    RandomResizedCrop,
    RandomSharpness,
)

FIRST = {"data_format": "channels_first"}
LAYERS = {
    "MixUp": lambda **k: MixUp(0.3, 0.7, **k),
    "CutMix": lambda **k: CutMix(0.7, 0.7, **k),
    "constant": lambda **k: RandomErasing(0.7, count=(1, 3), fill=(1, 2, 3), **k),
    "channel_noise": lambda **k: RandomErasing(0.7, count=2, fill="channel_noise", value_range=(1, 4), **k),
    "pixel_noise": lambda **k: RandomErasing(0.7, fill="pixel_noise", value_range=(1, 4), **k),
    "RandomChoice": lambda seed, **k: RandomChoice([MixUp(0.5, 0.7, **k), CutMix(**k)], None, "sample", seed=seed),
    "Pipeline": lambda **k: Pipeline([RandomErasing(0.5), MixUp(0.5), RandomPadCrop(1), LabelNoise(0.3)], **k),
    "RandomPadCrop": lambda **k: RandomPadCrop((7, 4), 0.7, fill_value=2, **k),
    "RandomAffine": lambda **k: RandomAffine(30, 0.2, 0.3, 0.1, 0.7, fill_value=2, **k),
    "RandAugment": lambda **k: RandAugment(
        2, 19, operations=["rotate", "equalize", "color"], rate=0.7, fill_value=2, value_range=(0, 20), **k
    ),
    "RandomFlip": lambda **k: RandomFlip("horizontal_and_vertical", 0.6, **k),
    "movers": lambda seed, **k: Pipeline(
        [RandomPadCrop((3, 2), **k), RandomFlip(**k), RandomAffine(30, 0.2, 0.3, 0.1, 0.7, **k), RandomPadCrop(2, **k)],
        seed=seed,
    ),
    "Pipeline of noise": lambda **k: Pipeline(
        [RandomErasing(1.0, fill="pixel_noise", value_range=(1, 4)), CutMix()], **k
    ),
    "RandomApply": lambda **k: RandomApply(CutMix(), 0.5, **k),
    "ColorJitter": lambda **k: ColorJitter(0.4, 0.4, 0.4, 0.1, 0.7, (0, 20), **k),
    "RandomGrayscale": lambda **k: RandomGrayscale(0.7, **k),
    "RandomSharpness": lambda **k: RandomSharpness((-1, 3), 0.7, (0, 20), **k),
    "RandomGaussianBlur": lambda **k: RandomGaussianBlur((0.5, 2), rate=0.7, **k),
    "RandomGaussianNoise": lambda data_format=None, **k: RandomGaussianNoise(1, 0.7, **k),
    "PCAColorJitter": lambda **k: PCAColorJitter(0.1, 0.7, **k),
}
LAYERS["chain"] = lambda **k: Pipeline([MixUp(1.0), CutMix(), RandomErasing(0.5, fill=7), MixUp(0.3, 0.5)], **k)
FILLING = ["constant", "channel_noise", "pixel_noise"]
MOVING = ["RandomPadCrop", "RandomFlip"]
FILTERS = ["RandomSharpness", "RandomGaussianBlur", "ColorJitter"]
ON_HOST = [
    "chain",
    "MixUp",
    "CutMix",
    *FILLING,
    "RandomChoice",
    "RandomAffine",
    "RandAugment",
    *FILTERS,
    "movers",
    *MOVING,
]
OF_EACH_KIND = ["CutMix", "pixel_noise", "RandAugment", "movers", "ColorJitter", "RandomGaussianBlur", "chain"]
TINTING = ("PCAColorJitter", "RandomGrayscale")
EXACT = ("CutMix", *FILLING, *MOVING, "RandomApply")


def batch(dtype="float32", channels_first=False):
    rng = np.random.default_rng(0)
    images = (rng.random((9, 6, 10, 3)) * 9 + 1).astype(dtype)
    return images.transpose(0, 3, 1, 2) if channels_first else images, np.eye(9, dtype="float32")


@pytest.fixture
def compile_all(monkeypatch):
    monkeypatch.setattr("keras_reg._backend._place.Place.worth_compiling", 1)


@pytest.fixture(params=["small", "large"])
def image_size(request, monkeypatch):
    """Images that count as large are mixed where they lie, once they are nobody else's, and filtered band by band."""
    if request.param == "large":
        monkeypatch.setattr("keras_reg.layers._pixels._for_host._LARGE", 1)
        monkeypatch.setattr("keras_reg.layers._pixels._filters_on_host.AT_ONCE", 70)


def in_a_worker(function):
    """What `function` returns in a thread, where NumPy arrays stay with NumPy."""
    with ThreadPoolExecutor(1) as pool:
        return to_numpy(pool.submit(function).result())


def assert_alike(name, found, expected, tolerance=2e-6):
    """Pixels that are only moved keep their bits; XLA divides labels by a reciprocal."""
    if name in EXACT:
        assert_same_bits(found[0], expected[0])
    # Color jitter subtracts: a rounding of 20 may stay in 0.1. Movers multiply maps: positions are rounded, too.
    tolerance = 2e-5 if name in ("ColorJitter", "movers") else tolerance
    assert_close(found, expected, rtol=tolerance, atol=tolerance)


def blends(name):
    """How often the pixels of a layer of `LAYERS` are blended."""
    return 2 if name == "chain" else 1


def programs(layer):
    return layer._programs._programs


@only("tensorflow", "jax", why="PyTorch compiles when the user says so")
@pytest.mark.parametrize("name", fewer(LAYERS, OF_EACH_KIND))
def test_compiled_as_one_program_it_is_the_same_function(name, monkeypatch):
    layer = LAYERS[name](seed=1)
    plain = to_numpy(layer(*batch(), index=3))
    assert not programs(layer)
    monkeypatch.setattr("keras_reg._backend._place.Place.worth_compiling", 1)
    found = to_numpy(layer(*batch(), index=3))
    split = name == "Pipeline of noise" and BACKEND == "tensorflow"  # which draws it faster outside
    assert all(programs(part) for part in (layer.layers if split else [layer]))
    assert_alike(name, found, plain)
    assert (found[0] != batch()[0]).any()


@only("tensorflow", why="Under JAX, a program cannot take a processor for an accelerator")
@pytest.mark.usefixtures("compile_all")
@pytest.mark.parametrize("name", fewer(LAYERS, OF_EACH_KIND))
def test_a_program_for_a_gpu_is_the_same_function(name, monkeypatch):
    """Run on the processor. It has other barriers, and computes all operations of a policy for all images."""
    found, expected = LAYERS[name](seed=1), to_numpy(LAYERS[name](seed=1)(*batch(), index=3))
    monkeypatch.setattr("keras_reg._backend._tensorflow._has_gpu", lambda: True)
    assert_alike(name, to_numpy(found(*batch(), index=3)), expected)


@only("tensorflow")
@pytest.mark.usefixtures("compile_all")
def test_gradients_pass_a_program_for_a_gpu(monkeypatch):
    import tensorflow as tf

    def gradient():
        layer, images = Pipeline([RandomAffine(15), RandomGaussianBlur(rate=1.0)], seed=1), tf.constant(batch()[0])
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(layer(images, index=3) ** 2)
        return to_numpy(tape.gradient(total, images))

    expected = gradient()
    monkeypatch.setattr("keras_reg._backend._tensorflow._has_gpu", lambda: True)
    np.testing.assert_allclose(gradient(), expected, rtol=1e-4, atol=1e-4)


@only("tensorflow", "jax", why="PyTorch is faster without")
@pytest.mark.usefixtures("compile_all")
@pytest.mark.parametrize("name", fewer(LAYERS, OF_EACH_KIND))
def test_bfloat16_is_computed_in_float32_and_rounded_once(name):
    images, labels = (keras.ops.cast(array, "bfloat16") for array in batch())
    found = LAYERS[name](seed=1)
    found.dtype_policy = "bfloat16"
    if isinstance(found, (Pipeline, RandomApply)):
        for layer in found.layers:
            layer.dtype_policy = "bfloat16"
    wide, _ = LAYERS[name](seed=1)(keras.ops.cast(images, "float32"), labels, index=3)
    assert_same_bits(found(images, labels, index=3)[0], keras.ops.cast(wide, "bfloat16"))


@pytest.mark.usefixtures("image_size")
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
@pytest.mark.parametrize("layout", [{}, FIRST])
@pytest.mark.parametrize("name", ON_HOST)
def test_box_by_box_on_the_host_it_is_the_same_function(name, layout, dtype, monkeypatch):
    if layout and name == "chain":
        pytest.skip("its parts have the layout of Keras")
    images, labels = batch(dtype, channels_first=bool(layout))
    given = images.copy()
    layer = LAYERS[name](seed=2, **layout)
    if dtype == "float16":
        layer.dtype_policy = "float16"

    def call():
        return layer(images, labels, index=5)

    found = to_numpy(call()) if BACKEND == "torch" else in_a_worker(call)
    monkeypatch.setattr("keras_reg._backend._numpy.NumpyPlace.is_host", False)
    plain = to_numpy(call()) if BACKEND == "torch" else in_a_worker(call)
    rounded_once = dtype == "float16" and BACKEND == "torch"  # by its lerp, and thrice by what stands beside it
    assert_alike(name, found, plain, blends(name) * 2**-10 if rounded_once else 2e-6)
    assert found[0].dtype == dtype or name in ("MixUp", "RandomChoice", "chain")
    assert (found[0] != images).any() and not np.shares_memory(found[0], images)
    assert_same_bits(images, given)


@pytest.mark.once  # NumPy does all of it
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("make", [MixUp, PCAColorJitter, functools.partial(RandomResizedCrop, 5)])
def test_workers_compute_short_floats_in_float32_and_round_once(make, dtype):
    images = np.random.default_rng(0).random((4, 8, 6, 3)).astype(dtype)
    labels = np.eye(4, dtype="float32")
    short = in_a_worker(lambda: make(seed=1, dtype=dtype)(images, labels, index=0))
    wide = in_a_worker(lambda: make(seed=1, dtype="float32")(images.astype("float32"), labels, index=0))
    np.testing.assert_array_equal(short[0], wide[0].astype(dtype).astype(short[0].dtype))


@only("torch", why="the others compile what is worth it")
@pytest.mark.usefixtures("image_size")
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", [{}, FIRST])
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in TINTING])  # PyTorch is faster at it
def test_planned_on_the_host_it_is_the_same_function(name, layout, dtype, monkeypatch):
    import torch

    if layout and name.startswith(("Pipeline", "RandomApply", "chain")):
        pytest.skip("its parts have the layout of Keras")
    whole, short = dtype == "uint8", dtype in ("float16", "bfloat16")
    images, labels = map(torch.as_tensor, batch(dtype if whole else "float32", channels_first=bool(layout)))
    images = images.to(getattr(torch, dtype))
    given = images.clone()
    layer = LAYERS[name](seed=2, **layout)
    if short:
        layer.dtype_policy = dtype
    with monkeypatch.context() as patch:
        patch.delattr("keras.ops.where")  # NumPy's is taken
        found = layer(images, labels, index=5)
    monkeypatch.setattr("keras_reg._backend._torch.TorchPlace.is_in_reach", lambda *_: False)
    plain = layer(images, labels, index=5)
    assert [x.dtype for x in found] == [x.dtype for x in plain]
    assert torch.equal(images, given)
    found, plain = ([to_numpy(x.double() if x.dtype is torch.bfloat16 else x) for x in pair] for pair in (found, plain))
    assert_alike(name, found, plain, blends(name) * torch.finfo(images.dtype).eps if short else 2e-6)
    assert (found[0] != to_numpy(images.double())).any()


@only("torch", why="the others compile what is worth it")
def test_what_the_host_leaves_alone_is_given_back_itself():
    import torch

    images, labels = map(torch.as_tensor, batch())
    weights = torch.ones(9, dtype=torch.float64)
    found = RandomErasing(seed=0)(images, labels, weights)
    assert found[0] is not images and found[1] is labels and found[2] is weights
    untouched = RandomErasing(0)(images, labels)
    assert untouched[0] is images


def test_what_a_layer_of_keras_returns_is_not_written_to(monkeypatch):
    """It may be something that the layer keeps."""
    monkeypatch.setattr("keras_reg.layers._pixels._for_host._LARGE", 1)
    images, labels = batch()

    class Keeps(keras.layers.Layer):
        kept = keras.ops.convert_to_tensor(images)

        def call(self, inputs):
            return self.kept

        def compute_output_shape(self, input_shape):
            return input_shape

    for last in (MixUp(1.0), CutMix(), RandomErasing(1.0)):
        layer = Pipeline([RandomErasing(1.0), Keeps(), last], seed=0)
        call = functools.partial(layer, images, labels)
        found, _ = to_numpy(call()) if BACKEND == "torch" else in_a_worker(call)
        assert (found != images).any()
        assert_same_bits(to_numpy(Keeps.kept), images)


@pytest.mark.parametrize("channels", [None, 1])
@pytest.mark.parametrize("layout", [{}, FIRST])
@pytest.mark.parametrize(
    "name", ["MixUp", "CutMix", "RandomChoice", "RandomAffine", *MOVING, "reflect", "RandomErasing"]
)
def test_masks_go_along_on_the_host_as_elsewhere(name, layout, channels, monkeypatch):
    """With an axis of channels and without one, which has a place of its own in each layout."""
    images, _ = batch(channels_first=bool(layout))
    mask = np.random.default_rng(1).integers(0, 3, (9, 6, 10)).astype("int32")
    mask = mask if channels is None else np.expand_dims(mask, 1 if layout else -1)
    makers = {name: functools.partial(make, num_classes=3) for name, make in MIXERS.items()}
    makers["RandomPadCrop"] = lambda **k: RandomPadCrop((7, 4), mask_fill=5, **k)
    makers["RandomAffine"] = lambda **k: RandomAffine(30, 0.2, mask_fill=5, **k)
    makers["RandomFlip"] = LAYERS["RandomFlip"]
    makers["reflect"] = lambda **k: RandomPadCrop(3, fill_mode="reflect", **k)
    makers["RandomErasing"] = lambda **k: RandomErasing(0.7, count=2, mask_fill=5, **k)
    layer = makers[name](seed=2, **layout)

    def call():
        return layer({"images": images, "segmentation_masks": mask}, index=5)

    found = to_numpy(call()) if BACKEND == "torch" else in_a_worker(call)
    monkeypatch.setattr("keras_reg._backend._numpy.NumpyPlace.is_host", False)
    plain = to_numpy(call()) if BACKEND == "torch" else in_a_worker(call)
    for key, array in found.items():
        assert_close(array, plain[key], rtol=2e-6, atol=2e-6)
    assert (found["images"] != images).any()


def test_a_partner_that_is_no_number_stays_out_on_the_host():
    images, labels = batch()
    images[3] = np.nan
    layer = MixUp(rate=0.5, seed=4)
    found, mixed = in_a_worker(lambda: layer(images, labels, index=0))
    kept = mixed.max(axis=1) == 1
    assert 2 <= kept.sum() <= 7
    assert_same_bits(found[kept], images[kept])
    assert np.isnan(found[~kept]).any(axis=(1, 2, 3)).sum() == (mixed[~kept, 3] > 0).sum()


@pytest.mark.usefixtures("compile_all")
def test_a_strength_moves_in_a_compiled_program():
    layer = RandomErasing(keras_reg.Strength(1.0), (0.5, 0.5), (1, 1), fill=-1, seed=0)
    (weight,) = [variable for variable in layer.variables if hasattr(variable, "strength")]
    images = batch()[0]
    shares = []
    for value in (1.0, 0.0, 1.0):
        weight.assign(value)
        shares.append((to_numpy(layer(images)) == -1).any(axis=(1, 2, 3)).mean())
    assert shares == [1, 0, 1]
    mapped = []
    for value in (0.0, 1.0):
        weight.assign(value)
        mapped.append((map_in_tf_data(layer, images, 9)[0] == -1).any(axis=(1, 2, 3)).mean())
    assert mapped == [0, 1]


@pytest.mark.usefixtures("compile_all")
def test_an_argument_that_is_set_anew_counts_and_copies_compile_for_themselves():
    images = batch()[0]
    layer = Pipeline([RandomErasing(1.0, fill=-1)], seed=0)
    assert (to_numpy(layer(images)) == -1).any()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (to_numpy(twin(images)) == -1).any()
    layer.layers[0].fill = -2
    found = to_numpy(layer(images))
    assert (found == -2).any() and not (found == -1).any()


@pytest.mark.usefixtures("compile_all")
def test_weights_of_a_choice_that_are_set_anew_count():
    layer = RandomChoice([MixUp(10.0), CutMix()], [1, 0], "sample", seed=0)
    images = batch()[0]
    blended = [np.isin(to_numpy(layer(images)), images).mean()]
    layer.probabilities = [0, 1]
    blended.append(np.isin(to_numpy(layer(images)), images).mean())
    assert blended[0] < 0.01 and blended[1] == 1


@pytest.mark.usefixtures("compile_all")
def test_every_element_of_an_argument_counts():
    """Printing an array of this size leaves most of its elements out."""
    components = np.eye(40)
    layer = PCAColorJitter(1.0, 1.0, np.ones(40), components, seed=0)
    images = np.zeros((4, 8, 8, 40), "float32")
    before = to_numpy(layer(images, index=1))
    for scale, arrays in ((3.0, components.copy()), (5.0, components.tolist())):
        layer.eigenvectors = arrays
        layer.eigenvectors[20][20] = scale
        after = to_numpy(layer(images, index=1))
        np.testing.assert_allclose(after[..., 20], scale * before[..., 20], rtol=1e-5)


@pytest.mark.usefixtures("compile_all")
def test_an_alpha_that_is_set_anew_counts():
    layer, images = MixUp(1e-6, seed=0), batch()[0]
    assert np.isin(to_numpy(layer(images)), images).mean() > 0.99
    layer.alpha = 50.0
    assert np.isin(to_numpy(layer(images)), images).mean() < 0.01


@pytest.mark.usefixtures("compile_all")
def test_a_layer_that_is_put_in_the_place_of_another_counts():
    """Even where it takes over the memory, and so the id, of the other."""
    images = batch()[0]
    layer = Pipeline([MixUp(10.0)], seed=0)
    for make, cuts in [(lambda: MixUp(10.0), False), (lambda: CutMix(10.0), True)] * 3:
        layer.layers[0] = None
        layer.layers[0] = make()
        assert np.isin(to_numpy(layer(images)), images).all() == cuts


@pytest.mark.usefixtures("compile_all")
def test_a_tf_data_map_compiles_itself():
    """Also under JAX and PyTorch, and for the last batch, which is smaller."""
    layer = Pipeline([RandomErasing(1.0, fill=-1), CutMix(num_classes=9)], seed=0)
    images, ids = np.concatenate([batch()[0]] * 2), np.arange(18) % 9
    found = map_in_tf_data(layer, (images, ids), 7, num_parallel_calls=2)
    assert [len(x) for x, _ in found] == [7, 7, 4]
    assert all((x == -1).any(axis=(1, 2, 3)).all() and np.allclose(y.sum(1), 1) for x, y in found)
    assert any(name == "tensorflow" for name, _ in programs(layer))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bfloat16"])
def test_a_few_images_at_a_time_it_is_the_same_function(dtype, monkeypatch):
    """In a worker, where a part has three images of twenty, and the last part has two."""
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3))
    images = keras.ops.convert_to_numpy(keras.ops.cast(images, dtype))
    layer = AugMix(value_range=(0, 255), rate=0.7, seed=1)
    together = in_a_worker(lambda: layer(images, index=3))
    monkeypatch.setattr("keras_reg._backend._numpy.NumpyPlace._PART", 3 * 6 * 5 * 3 + 1)
    apart = in_a_worker(lambda: layer(images, index=3))
    assert_same_bits(apart, together)
    assert (np.asarray(together) != images).any()


@only("torch", why="Others have no such flag")
def test_a_gradient_flows_to_images_that_want_one():
    import torch

    images = torch.tensor(batch()[0], requires_grad=True)
    for layer in (MixUp(seed=0), CutMix(num_classes=9, seed=0), RandomErasing(1.0, seed=0)):
        found = layer(images)
        (gradient,) = torch.autograd.grad(found.sum(), images)
        kept = float(gradient.sum()) / images.numel()
        assert 0.5 < kept < 0.99 if isinstance(layer, RandomErasing) else abs(kept - 1) < 1e-4


@pytest.mark.usefixtures("compile_all")
def test_a_network_with_an_augmentation_inside_trains():
    """Behind a layer with weights: the gradient must get through the augmentation, compiled or not."""
    images, labels = batch()
    inputs = keras.Input(images.shape[1:])
    x = keras.layers.Conv2D(3, 3, padding="same")(inputs)
    x = Pipeline([RandomErasing(0.5), RandomAffine(15), RandomGrayscale(0.5)], seed=0)(x)
    model = keras.Model(inputs, keras.layers.Dense(9)(keras.layers.Flatten()(x)))
    model.compile("sgd", "mse")
    before = to_numpy(model.layers[1].kernel)
    model.fit(images, labels, verbose=0)
    assert (to_numpy(model.layers[1].kernel) != before).any()


@pytest.mark.slow
@only("torch", why="torch.compile is PyTorch's")
@pytest.mark.filterwarnings("ignore:Dynamo cannot trace optree")  # by which Keras 3.10 takes its nests apart
def test_a_compiled_pipeline_is_compiled_once():
    """Eight compilations later torch.compile would give up and run eagerly."""
    import torch

    layer = Pipeline([LabelNoise(0.5, num_classes=9), LabelNoise(0.5, num_classes=9)], seed=0)
    compiled = torch.compile(lambda *data: layer(data), dynamic=False, backend="eager")
    data = [torch.as_tensor(array) for array in batch()]
    for _ in range(2):
        compiled(*data)
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(*data)


POLICIES = {
    "RandAugment": lambda: RandAugment(seed=0),
    "AugMix": lambda: AugMix(seed=0),
    "Pipeline": lambda: Pipeline([RandAugment(value_range=(0, 255)), MixUp(1.0, num_classes=9)], seed=0),
}


@pytest.mark.slow
@only("torch", why="torch.compile is PyTorch's")
@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.filterwarnings("ignore:Dynamo cannot trace optree")  # by which Keras 3.10 takes its nests apart
def test_new_draws_of_a_policy_do_not_compile_it_again(name):
    """Each draw runs the operations on other numbers of images, which must not become sizes of a graph."""
    import torch

    layer, eager = POLICIES[name](), POLICIES[name]()
    compiled = torch.compile(lambda *data: layer(data), backend="eager")
    images, labels = batch()
    data = torch.as_tensor((25 * images).astype("uint8")), torch.as_tensor(labels)

    def agree():
        for found, expected in zip(compiled(*data), eager(*data), strict=True):
            assert_same_bits(to_numpy(found), to_numpy(expected))

    agree()
    agree()
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(3):
            agree()
