"""On PyTorch, layers use functions that take plain numbers, since Keras copies each number to the device and waits."""

import contextlib
import itertools

import keras
import numpy as np
import pytest
from harness import BACKEND, only, to_numpy

from keras_reg import layers

pytestmark = only("torch", why="the operations are those of PyTorch's tensors")
if BACKEND == "torch":
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        """Counts the operations that a device has to start. Those that only change a shape are not among them."""

        started = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.started += function.overloadpacket.__name__ not in OF_SHAPES
            return function(*args, **(kwargs or {}))


class Probe(layers.BatchAugmentation):
    """Keeps the operations that hooks get."""

    def get_random_transformation(self, batch, random):
        self.operations = batch.ops

    def transform_images(self, images, transformation, batch):
        return images


@pytest.fixture(scope="module")
def operations():
    probe = Probe(1.0)
    probe(keras.ops.ones((2, 6, 5, 3)), training=True)
    return probe.operations


OF_SHAPES = (
    "alias", "as_strided", "detach", "expand", "lift_fresh", "permute", "select", "slice", "split", "split_with_sizes",
    "squeeze", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view",
)  # fmt: skip
DTYPES = ("uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64")
NUMBERS = (0, 1, -1, 3, 1.0, -0.5, 2.5)


def tensors(dtype):
    values = [0.0, 1.0, 2.0, 100.0] if dtype == "uint8" else [-2.0, 0.0, 1.0, 3.0]
    return keras.ops.convert_to_tensor(np.array(values), dtype=dtype)


def agree(operations, name, *arguments):
    """Compares an operation with that of Keras, where Keras has a result."""
    try:
        theirs = getattr(keras.ops, name)(*arguments)
    except RuntimeError:  # Keras cannot convert the number to the dtype
        return
    ours = getattr(operations, name)(*arguments)
    if ours.dtype in (torch.int64, torch.float64):  # Keras makes 32 bits of 64 where a tensor meets a number
        theirs = theirs.to(ours.dtype)
    assert ours.dtype == theirs.dtype and ours.device == theirs.device, (name, arguments)
    np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_dtypes_are_those_of_keras(dtype, operations):
    x = tensors(dtype)
    for number, name in itertools.product(NUMBERS, ("maximum", "minimum")):
        agree(operations, name, x, number)
        agree(operations, name, number, x)
    for number in (1, 2, 2.5):
        agree(operations, "mod", x, number)
    for low, high in ((0, 2), (0.5, 2.5), (x[1], x[2]), (0, x[2]), (-1, 2)):
        agree(operations, "clip", x, low, high)
    for first, second in itertools.product((x, x * 2, 0, 1.5, -1), repeat=2):
        agree(operations, "where", x > 0, first, second)
    for name in ("abs", "cos", "exp", "floor", "round", "sign", "sin", "square"):
        agree(operations, name, x)
    for name in ("log", "sqrt"):
        agree(operations, name, abs(x) + 1)
    for number, to in itertools.product((True, 3, 2.5, x), DTYPES):
        agree(operations, "cast", number, to)


def test_numbers_and_lists(operations):
    for name in ("maximum", "minimum"):
        agree(operations, name, 3, 4)
        agree(operations, name, 3, 4.5)
    for value in ([1, 2], [1.0, 2.0], (True, False), np.arange(3.0), 3, 2.5, [[1], [2]]):
        agree(operations, "convert_to_tensor", value)
        agree(operations, "convert_to_tensor", value, "float16")
    index = keras.ops.convert_to_tensor([0, 2, 2, -1, 4])
    np.testing.assert_array_equal(to_numpy(operations.segment_sum(index + 1, index, 4)), [1, 0, 6, 0])


def test_further_arguments_are_those_of_keras(operations):
    x, index = keras.ops.convert_to_tensor([[1.234, 2.0], [3.0, 4.0]]), keras.ops.convert_to_tensor([1, 0])
    agree(operations, "round", x, 1)
    agree(operations, "segment_sum", x, index)
    agree(operations, "segment_sum", x, index, 3)


def test_nan_is_kept(operations):
    x = keras.ops.convert_to_tensor([np.nan, 1.0])
    for name, arguments in (("maximum", (0.0,)), ("minimum", (0.0,)), ("clip", (0.0, 2.0))):
        agree(operations, name, x, *arguments)


@contextlib.contextmanager
def numbers_that_are_copied(monkeypatch):
    """Collects the plain numbers and lists of which tensors are made. As on a GPU, NumPy cannot read tensors."""
    found = []

    def counting(function):
        def counted(x, *args, **kwargs):
            if not isinstance(x, (torch.Tensor, np.ndarray)):
                found.append(x)
            return function(x, *args, **kwargs)

        return counted

    def refused(tensor, *args, **kwargs):
        raise TypeError("NumPy cannot read a tensor on a GPU")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "__array__", refused)
        patch.setattr(torch, "as_tensor", counting(torch.as_tensor))
        patch.setattr(torch, "tensor", counting(torch.tensor))
        yield found


LAYERS = {
    "RandomErasing": lambda: layers.RandomErasing(0.5, fill="pixel_noise", count=(1, 3)),
    "mixing": lambda: layers.RandomChoice([layers.MixUp(), layers.CutMix()], mode="sample"),
    "geometry": lambda: layers.Pipeline([layers.RandomFlip(), layers.RandomAffine(9, 0.1), layers.RandomPadCrop(2)]),
    "RandomResizedCrop": lambda: layers.RandomResizedCrop(4),
    "colors": lambda: layers.Pipeline([layers.RandomGrayscale(), layers.RandomSharpness(0.5, value_range=(0, 1))]),
    "ColorJitter": lambda: layers.ColorJitter(0.4, 0.4, 0.4, value_range=(0, 1)),
    "RandomGaussianBlur": lambda: layers.RandomGaussianBlur(5),
    "RandomGaussianNoise": lambda: layers.RandomGaussianNoise(0.1),
    "TrivialAugmentWide": lambda: layers.TrivialAugmentWide(value_range=(0, 1)),
    "AutoAugment": lambda: layers.AutoAugment(value_range=(0, 1)),
    "AugMix": lambda: layers.AugMix(value_range=(0, 1)),
    "LabelNoise": lambda: layers.LabelNoise(0.2),
}


def on_a_device():
    """A batch that PyTorch has to handle, as on a GPU: NumPy does not handle images that need gradients."""
    images = np.random.default_rng(0).random((5, 6, 7, 3), "float32")
    return keras.ops.convert_to_tensor(images).requires_grad_(), keras.ops.eye(5)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_copies_no_numbers_to_the_device(make, monkeypatch):
    layer = make()
    data = on_a_device()
    layer(data, training=True)
    with numbers_that_are_copied(monkeypatch) as found:
        layer(data, training=True)
    assert found == []


SEEDED = {
    "erasing": lambda: layers.RandomErasing(0.7, count=(1, 3), seed=1),
    "geometry": lambda: layers.Pipeline(
        [layers.RandomFlip(), layers.RandomAffine(30, 0.2), layers.RandomPadCrop(2)], seed=2
    ),
    "colors": lambda: layers.Pipeline(
        [layers.ColorJitter(0.4, 0.4, 0.4, value_range=(0, 255)), layers.RandomGrayscale(0.5)], seed=3
    ),
    "choices": lambda: layers.Pipeline(
        [
            layers.RandomApply(keras.layers.RandomFlip("horizontal", seed=1), 0.5),
            layers.RandomChoice([layers.MixUp(), layers.CutMix(rate=0.8)], mode="sample"),
        ],
        seed=4,
    ),
    "policy": lambda: layers.TrivialAugmentWide(value_range=(0, 255), seed=5),
}


@pytest.mark.parametrize("make", SEEDED.values(), ids=SEEDED)
def test_one_seed_gives_one_result_wherever_pixels_are_computed(make):
    images, labels = on_a_device()
    images = (255 * images).detach().requires_grad_()
    for ours, theirs in zip(make()((images, labels)), make()((images.detach(), labels)), strict=True):
        np.testing.assert_allclose(to_numpy(ours.detach()), to_numpy(theirs), atol=1e-3)


MOST = {  # operations of a call
    "RandomFlip": (lambda: layers.RandomFlip(), 6),
    "RandomAffine": (lambda: layers.RandomAffine(15, 0.1, 0.1, 0.1), 46),
    "RandomErasing": (lambda: layers.RandomErasing(0.5), 20),
    "MixUp": (lambda: layers.MixUp(), 22),
    "CutMix": (lambda: layers.CutMix(), 28),
    "mixing": (LAYERS["mixing"], 36),
    "RandomPadCrop": (lambda: layers.RandomPadCrop(2), 16),
    "geometry": (LAYERS["geometry"], 62),
    "ColorJitter": (LAYERS["ColorJitter"], 36),
    "RandomGaussianBlur": (LAYERS["RandomGaussianBlur"], 133),
    "RandAugment": (lambda: layers.RandAugment(value_range=(0, 1)), 230),
    "TrivialAugmentWide": (LAYERS["TrivialAugmentWide"], 116),
    "AugMix": (LAYERS["AugMix"], 410),
}


@pytest.mark.parametrize(("make", "most"), MOST.values(), ids=MOST)
def test_few_operations_are_started(make, most):
    """A GPU needs as long to start an operation on a few numbers as any other."""
    layer, data = make(), on_a_device()
    layer(data, training=True)
    with Counting() as counting:
        layer(data, training=True)
    assert 0 < counting.started <= most


def test_a_blur_is_the_same_wherever_pixels_are_computed():
    images = on_a_device()[0].detach()
    ours, theirs = (layers.RandomGaussianBlur(1.5, seed=1)(x) for x in (images, images.clone().requires_grad_()))
    np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs.detach()))


def test_an_image_has_only_its_own_operations_of_a_policy():
    layer = layers.TrivialAugmentWide(value_range=(0, 1))
    image = keras.ops.ones((1, 6, 7, 3)).requires_grad_()
    for _ in range(5):
        with Counting() as counting:
            layer(image, training=True)
        assert 0 < counting.started <= 40


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_warps_on_the_host_do_not_depend_on_the_device_that_pytorch_prefers(several):
    steps = [layers.RandomAffine(20), *several * [layers.RandomAffine(20), layers.RandomPadCrop(2)]]
    layer, images = layers.Pipeline(steps, seed=1), torch.rand(4, 8, 6, 3)
    with torch.device("meta"):
        found = layer(images, training=True, index=3)
    np.testing.assert_array_equal(found.numpy(), layer(images, training=True, index=3).numpy())
