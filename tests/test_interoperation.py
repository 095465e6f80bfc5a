"""The examples of `examples/interoperation` do what their pages say, on every backend where the other library works."""

import importlib.util
import re
import warnings

import numpy as np
import pytest
from harness import ROOT, only, raises_received, run_in_fresh_process, to_numpy

from keras_reg import inference, surgery, training

FOLDER = ROOT / "examples" / "interoperation"


def example(name, *needed):
    """The example as a module; skips where a library it is about is not installed."""
    with warnings.catch_warnings():  # some of these libraries warn while they are imported
        warnings.simplefilter("ignore")
        for library in needed:
            pytest.importorskip(library, exc_type=ImportError)  # KerasHub asks for a recent Keras
        spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def is_mixed(labels):
    """Every row is a distribution, and some of them are of two classes."""
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-6)
    assert labels.max(-1).min() < 0.99
    assert (np.count_nonzero(labels, axis=-1) <= 2).all()


def falls(losses):
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_every_example_is_tested_and_on_the_page():
    """Line by line: what the page shows, in blocks that do not stand alone, is what these tests run."""
    here = (ROOT / "tests" / "test_interoperation.py").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "interoperation.md").read_text(encoding="utf-8")
    examples = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    assert len(examples) == 6
    sections = dict(re.findall(r"`examples/interoperation/(\w+\.py)`(.*?)(?=\n## |\Z)", page, re.DOTALL))
    assert sections.keys() == examples.keys()
    for name, section in sections.items():
        assert name in here or f'"{name[:-3]}"' in here
        (shown,) = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
        lines = {line.strip() for line in examples[name].splitlines()}
        assert not [line for line in shown.splitlines() if line.strip() not in lines | {"..."}], name


def test_tensorflow_datasets(tmp_path):
    history, (images, labels) = example("with_tfds", "tensorflow_datasets").main(folder=tmp_path)
    assert images.shape == (32, 8, 8, 1) and images.dtype == "uint8" and labels.shape == (32, 10)
    is_mixed(labels)
    falls(history["loss"])
    assert (tmp_path / "small_digits" / "1.0.0" / "dataset_info.json").exists()


def test_grain():
    module = example("with_grain", "grain")
    falls(module.main()["loss"])
    one, two, other = ([batch for batch in module.batches(seed)] for seed in (1, 1, 2))
    assert len(one) == 8
    for (x, y), (x_again, y_again) in zip(one, two, strict=True):
        np.testing.assert_array_equal(to_numpy(x), to_numpy(x_again))
        np.testing.assert_array_equal(to_numpy(y), to_numpy(y_again))
    is_mixed(to_numpy(one[0][1]))
    assert (to_numpy(one[0][0]) != to_numpy(other[0][0])).any()


def test_torch_data_loader():
    module = example("with_data_loader", "torch")
    falls(module.main()["loss"])
    first, again = (np.concatenate([y.numpy() for _, y in module.loader()]) for _ in range(2))
    is_mixed(first)
    assert first.shape == (256, 10) and (first != again).any()


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a single processor
@only("torch", why="Workers are forked, which JAX and TensorFlow do not outlive.")
def test_torch_data_loader_with_workers():
    falls(example("with_data_loader", "torch").main(num_workers=2)["loss"])


def test_keras_hub():
    classifier, history, (x, _) = example("with_keras_hub", "keras_hub").main()
    falls(history["loss"])
    assert classifier.predict(x[:4], verbose=0).shape == (4, 10)
    assert type(classifier).__name__ == "ResNetImageClassifier"


def test_the_preprocessor_of_a_task_of_keras_hub():
    """Only `fit` and `predict` of the task call it: a model around the task would see other inputs."""
    with_keras_hub = example("with_keras_hub", "keras_hub")
    hub = with_keras_hub.keras_hub
    preprocessor = hub.models.ResNetImageClassifierPreprocessor(hub.layers.ResNetImageConverter(scale=1 / 255))
    task = hub.models.ResNetImageClassifier(with_keras_hub.backbone(), num_classes=10, preprocessor=preprocessor)
    around = {
        "model": [
            training.RegularizedModel,
            lambda model: surgery.regularize(model, kernel_l2=1e-4),
            lambda model: inference.TestTimeAugmentation(model, inference.flips()),
        ],
        "models": [lambda model: inference.ensemble([model, model]), lambda model: inference.soup([model] * 2)],
    }
    for argument, functions in around.items():
        for function in functions:
            with raises_received(f"`{argument}`", "preprocessor"):
                function(task)
    task.preprocessor = None
    for functions in around.values():
        functions[0](task)


def test_keras_cv():
    batches = example("with_keras_cv", "keras_cv").main()
    assert len({batch["images"].tobytes() for batch in batches}) == len(batches)
    is_mixed(np.concatenate([batch["labels"] for batch in batches]))
    for batch in batches:
        assert batch["images"].shape == (2, 54, 80, 3)
        assert batch["segmentation_masks"].shape == (2, 54, 80, 1)
        assert set(np.unique(batch["segmentation_masks"])) == {0, 1}


@only("jax", why="keras.distribution.DataParallel runs on JAX.")
def test_keras_distribution():
    """On two devices the losses are those on one, and no image is augmented as another one is."""
    code = f"""
        import runpy, keras, numpy as np
        losses, same = runpy.run_path({str(FOLDER / "with_distribution.py")!r})["main"]()
        assert len(keras.distribution.list_devices()) == 2
        np.testing.assert_allclose(losses["all"], losses["one"], rtol=1e-4)
        assert losses["all"][-1] < losses["all"][0]
        images = np.asarray(same).reshape(64, -1)
        assert len(same.sharding.device_set) == 2
        assert len(np.unique(images, axis=0)) == 64
    """
    run_in_fresh_process(code, env={"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
