"""The CIFAR-10 ladder: each rung adds one thing to the one below; runs are kept, resumed, merged, and shown."""

import collections
import dataclasses
import importlib
import json

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT, digits, slow_on

import keras_reg

# Layers that a rung adds to the network (at tiny sizes, two stages), and steps that it adds to the augmentation.
ADDED = {
    "plain convolutional network": ({}, []),
    "+ random erasing": ({}, ["RandomErasing"]),
    "+ batch normalization": ({"BatchNormalization": 2}, []),
    "+ dropout 0.2 in each block": ({"Dropout": 2}, []),
    "+ L2 5e-4": ({}, []),
    "+ flip, crop with padding 2": ({}, ["RandomFlip", "RandomPadCrop"]),
    "+ exponential rate, gamma 0.96": ({}, []),
    "+ rotation by up to 5 degrees": ({}, ["RandomRotation"]),
    "+ capacity": ({"Conv2D": 2, "ReLU": 2, "BatchNormalization": 2}, []),
    "+ skip connections": ({"Add": 2}, []),
    "+ capacity once more": ({}, []),
    "+ MixUp or CutMix": ({}, ["RandomChoice"]),
    "+ label smoothing 0.1": ({}, []),
    "+ noisy batch normalization 0.1": ({"NoisyBatchNormalization": 4, "BatchNormalization": -4}, []),
    "+ stochastic depth, up to 0.1": ({"DropPath": 2}, []),
    "+ average of the weights": ({}, []),
    "aside: Gaussian noise on the plain network": ({}, ["RandomApply"]),
    "aside: instance for batch normalization": ({"GroupNormalization": 2, "BatchNormalization": -2}, []),
    "aside: MixUp or CutMix after flip and crop": ({}, ["RandomChoice"]),
    "aside: TrivialAugmentWide after flip and crop": ({}, ["Normalization", "TrivialAugmentWide", "Normalization"]),
    "aside: RandAugment(2, 9) after flip and crop": ({}, ["Normalization", "RandAugment", "Normalization"]),
    "aside: AutoAugment for CIFAR-10 after flip and crop": ({}, ["Normalization", "AutoAugment", "Normalization"]),
    "aside: TrivialAugmentWide for the rotation at the top": (
        {}, ["Normalization", "TrivialAugmentWide", "Normalization"],
    ),
    "aside: RandAugment(2, 9) for the rotation at the top": ({}, ["Normalization", "RandAugment", "Normalization"]),
}  # fmt: skip
POLICIES = "TrivialAugmentWide", "RandAugment(2, 9)", "AutoAugment for CIFAR-10"


@pytest.fixture
def ladder(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("cifar10_ladder")


FOUND = {}  # each rung is compared with the one below and with the one above


def parts(ladder, name):
    """Counts of the layers of a rung's network, the steps of its augmentation, and the number of parameters."""
    if name not in FOUND:
        on = ladder.recipe(name)
        size = dataclasses.replace(ladder.SIZES["small"], **ladder.SMOKE)
        network, augmentation = ladder.network(on, size, (8, 8, 3), 4), ladder.augmentation(on, size)
        steps = [type(layer).__name__ for layer in augmentation.layers] if augmentation else []
        layers = collections.Counter(type(layer).__name__ for layer in network.layers)
        FOUND[name] = layers, steps, network.count_params()
    return FOUND[name]


@pytest.mark.once
@pytest.mark.parametrize("name", ADDED)
def test_a_rung_adds_one_thing_to_the_one_below(ladder, name):
    rung, (in_network, in_augmentation) = ladder.RUNGS[name], ADDED[name]
    layers, steps, parameters = parts(ladder, name)
    if rung.base is None:
        assert not rung.adds and not steps
        assert set(layers) == {"InputLayer", "Conv2D", "MaxPooling2D", "ReLU", "Flatten", "Dense"}
        return
    assert sum(map(bool, rung.adds.values())) == 1
    layers_below, steps_below, parameters_below = parts(ladder, rung.base)
    names = {*layers, *layers_below}
    more = {kind: layers[kind] - layers_below[kind] for kind in names if layers[kind] != layers_below[kind]}
    assert more == in_network
    assert [step for step in steps if step not in steps_below] == in_augmentation
    kept = [step for step in steps_below if step != "RandomRotation" or rung.adds.get("rotation") != 0]
    assert [step for step in steps if step not in in_augmentation] == kept
    grows = "capacity" in rung.adds or rung.adds.get("normalization") == "batch"
    assert (parameters > parameters_below) == grows


@pytest.mark.once
def test_only_the_full_size_rotates_with_this_package(ladder):
    """The results of the small size were measured with the layer of Keras."""
    on, found = ladder.recipe("+ rotation by up to 5 degrees"), {}
    for name in ("small", "full"):
        *_, rotation, _ = ladder.augmentation(on, ladder.SIZES[name]).layers
        found[name] = type(rotation)
    assert found == {"small": keras.layers.RandomRotation, "full": keras_reg.layers.RandomAffine}
    assert rotation.rotation == 5.0 and rotation.fill_mode == "constant" and rotation.fill_value == 0


@pytest.mark.once
def test_a_policy_gets_the_pixels_before_they_were_standardized(ladder):
    data = ladder.load(None, 50, 0)
    standardized, policies = ladder.standardized(data), {}
    for name in (f"aside: {policy} after flip and crop" for policy in POLICIES):
        steps = ladder.augmentation(ladder.recipe(name), ladder.SIZES["small"], 0, standardized.pixels).layers
        _, _, undo, policy, repeat, _ = steps
        np.testing.assert_allclose(undo(standardized.x_val), data.x_val, atol=1e-6)
        np.testing.assert_allclose(repeat(data.x_val), standardized.x_val, atol=1e-5)
        assert policy.value_range == (0, 1) and policy.fill_value == 0.5
        policies[type(policy).__name__] = policy
    assert (policies["RandAugment"].num_ops, policies["RandAugment"].magnitude) == (2, 9)
    assert policies["AutoAugment"].policy == "cifar10" and len(policies) == 3


@pytest.mark.once
def test_the_rungs_are_those_that_are_listed_and_stand_on_each_other(ladder):
    names = list(ladder.RUNGS)
    assert names == list(ADDED)
    climbed = [rung for rung in ladder.RUNGS.values() if not rung.name.startswith("aside")]
    assert [rung.base for rung in climbed] == [None, *[rung.name for rung in climbed[:-1]]]


@pytest.mark.once
def test_what_is_not_a_layer_is_in_the_compiled_model(ladder):
    size = dataclasses.replace(ladder.SIZES["small"], **ladder.SMOKE)
    names = "+ average of the weights", "plain convolutional network"
    last, plain = (ladder.build(ladder.recipe(name), size, (8, 8, 3), 4, 0) for name in names)
    assert isinstance(last.loss, keras.losses.Loss) and last.loss.label_smoothing == 0.1
    assert last.optimizer.use_ema and last.optimizer.ema_momentum == size.ema_momentum
    assert not plain.optimizer.use_ema and type(plain.loss) is keras.losses.SparseCategoricalCrossentropy
    assert not isinstance(plain, keras_reg.training.RegularizedModel)
    kernels = [layer for layer in last.model.layers if hasattr(layer, "kernel")]
    assert kernels and all(np.isclose(float(layer.kernel_regularizer.l2), 5e-4) for layer in kernels)
    assert not any(layer.bias_regularizer for layer in kernels)
    for layer in plain.layers:
        if hasattr(layer, "kernel"):
            assert type(layer.kernel_initializer) is keras.initializers.HeNormal
            assert layer.kernel_regularizer is None
    assert float(keras.ops.convert_to_numpy(plain.optimizer.learning_rate)) == pytest.approx(1e-3)


class Recorder:
    """A model whose `fit` keeps what it is given."""

    history = {"accuracy": [0.5]}  # noqa: RUF012

    def fit(self, *data, **arguments):
        self.arguments = arguments
        return self


@pytest.mark.once
def test_the_rate_decays_from_its_rung_on(ladder):
    data = collections.namedtuple("Data", "x_train y_train")(np.zeros((4, 8, 8, 3)), np.zeros(4, int))
    rates = {}
    for name in ("+ flip, crop with padding 2", "+ exponential rate, gamma 0.96"):
        model = Recorder()
        assert ladder.fit(model, ladder.recipe(name), ladder.SIZES["small"], data, 0) == 0.5
        rates[name] = [callback.gamma for callback in model.arguments["callbacks"]]
        assert model.arguments["epochs"] == ladder.SIZES["small"].epochs
    assert list(rates.values()) == [[], [0.96]]


@slow_on("tensorflow", "jax")
@pytest.mark.skipif(BACKEND == "jax", reason="twenty seconds of compilation; the parts are tested there one by one")
def test_the_top_rung_trains_at_full_size(ladder, monkeypatch, tmp_path, capsys):
    """Half precision, data on the device, everything on: one epoch of one small stage, on as few shapes as can be."""
    images, labels = digits(128)
    np.savez(tmp_path / "d.npz", x_train=images[:64], y_train=labels[:64], x_test=images[64:], y_test=labels[64:])
    monkeypatch.setitem(ladder.SMOKE, "networks", (((4,), 2),) * 3)
    done = ladder.main(tmp_path / "d.npz", size="full", only=["average"], out=tmp_path, smoke=True)
    (run,) = done["runs"]
    assert run["rung"] == "+ average of the weights" and 0 <= run["validation"] <= 1 and run["cpu_seconds"] > 0
    assert keras.config.dtype_policy().name == "float32" and done["settings"]["dtype"] == "mixed_bfloat16"
    assert json.loads((tmp_path / "ladder_full_smoke.json").read_text()) == done
    assert "| + average of the weights |" in capsys.readouterr().out


@pytest.fixture
def runs(ladder, monkeypatch):
    """In the place of training: accuracies from the number of the rung and the seed; returns what was asked for."""
    asked, names = [], list(ladder.RUNGS)

    def run(name, size, data, seed):
        asked.append((seed, name))
        height = names.index(name)
        return {
            "rung": name, "seed": seed, "train": 0.9, "validation": 0.5 + 0.01 * height + 0.002 * seed * (height > 0),
            "running": 0.8, "epochs": size.epochs, "seconds": 5.0, "cpu_seconds": 4.0, "parameters": 100,
        }  # fmt: skip

    monkeypatch.setattr(ladder, "run", run)
    return asked


@pytest.mark.once
def test_runs_are_kept_resumed_and_shown(ladder, runs, tmp_path, capsys):
    first = ladder.main(seeds=2, labeled=40, only=["plain conv", "erasing"], out=tmp_path)
    names = list(ADDED)[:2]
    assert runs == [(seed, name) for seed in (0, 1) for name in names]  # whole ladders first
    printed = capsys.readouterr().out
    assert "| plain convolutional network | 90.0 ± 0.0 | 50.0 ± 0.0 |  | 40.0 | 2 | 40 | 4 | ~78 |" in printed
    assert "| + random erasing | 90.0 ± 0.0 | 51.1 ± 0.1 | +1.1 ± 0.1 | 38.9 | 2 | 40 | 4 | ~80 |" in printed
    runs.clear()
    again = ladder.main(seeds=2, labeled=40, only=["plain conv", "erasing", "L2"], out=tmp_path)
    assert runs == [(0, "+ L2 5e-4"), (1, "+ L2 5e-4")] and again["runs"][:4] == first["runs"]
    runs.clear()
    shown = ladder.main(show=[tmp_path / "ladder_small.json"], out=tmp_path / "shown")
    assert not runs and shown["runs"] == sorted(again["runs"], key=lambda run: run["seed"])
    assert (tmp_path / "shown" / "ladder.png").stat().st_size > 10_000
    assert "| + L2 5e-4 |" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"other settings.*epochs"):
        ladder.main(seeds=2, labeled=40, epochs=3, out=tmp_path)
    with pytest.raises(ValueError, match="Received: only="):
        ladder.main(only=["no such rung"], out=tmp_path)


@pytest.mark.once
def test_shares_of_several_processes_are_merged(ladder, runs, monkeypatch, tmp_path):
    monkeypatch.setattr(ladder, "draw", lambda done, path: None)
    for seed in (1, 0):
        ladder.main(seeds=1, first_seed=seed, labeled=40, only=["plain conv", "erasing"], out=tmp_path / str(seed))
    parts = [tmp_path / str(seed) / "ladder_small.json" for seed in (1, 0)]
    done = ladder.main(show=parts, out=tmp_path)
    assert [(run["seed"], run["rung"]) for run in done["runs"]] == [(s, n) for s in (0, 1) for n in list(ADDED)[:2]]
    assert json.loads((tmp_path / "ladder_small.json").read_text()) == done
    other = ladder.main(seeds=1, labeled=50, only=["plain conv"], out=tmp_path / "other")
    assert other["settings"] != done["settings"]
    with pytest.raises(ValueError, match="same settings"):
        ladder.main(show=[*parts, tmp_path / "other" / "ladder_small.json"], out=tmp_path)


@pytest.mark.once
def test_images_are_standardized_by_those_that_train(ladder):
    data = ladder.standardized(ladder.load(None, 200, 0))
    np.testing.assert_allclose(data.x_train.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(data.x_train.std((0, 1, 2)), 1, atol=1e-4)
    assert abs(data.x_val.mean()) > 1e-4  # by the same numbers, not by its own


def test_batches_on_the_device_are_a_new_order_in_each_epoch(ladder):
    x = np.arange(10, dtype="float32").reshape(10, 1)
    batches = ladder.OnDevice(x, np.arange(10), 3, seed=0)
    epochs = []
    for _ in range(2):
        found = [tuple(map(keras.ops.convert_to_numpy, batches[i])) for i in range(len(batches))]
        assert all((images[:, 0] == labels).all() for images, labels in found)
        epochs.append(np.concatenate([labels for _, labels in found]))
        batches.on_epoch_end()
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.once
def test_cifar10_comes_from_keras(ladder, monkeypatch):
    images, labels = np.full((6, 4, 4, 3), 255, "uint8"), np.arange(6)[:, None] % 2
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: ((images, labels), (images[:2], labels[:2])))
    data = ladder.load("cifar10", 4)
    assert data.x_train.shape == (4, 4, 4, 3) and data.x_train.max() == 1 and data.y_train.shape == (4,)
    assert data.x_val.shape == (2, 4, 4, 3) and data.classes == 2


@pytest.mark.once
def test_the_page_shows_what_was_measured(ladder):
    """The table on the page is the one that the results make, with the settings that the script has."""
    done = json.loads((ROOT / "docs" / "results" / "ladder_small.json").read_text())
    assert ladder.table(done) in (ROOT / "docs" / "ladder.md").read_text(encoding="utf-8")
    size = json.loads(json.dumps(dataclasses.asdict(ladder.SIZES["small"])))
    assert {key: done["settings"][key] for key in size} == size
    assert {run["rung"] for run in done["runs"]} == set(ladder.RUNGS)


@pytest.fixture
def sweep(ladder):
    return importlib.import_module("cifar10_sweep")


@pytest.mark.once
def test_the_sweep_judges_by_images_that_no_run_trains_on(ladder, sweep, monkeypatch, tmp_path, capsys):
    asked = []

    def train(on, size, data, seed):
        asked.append((on, size.epochs, seed))
        shared = {image.tobytes() for image in data.x_train} & {image.tobytes() for image in data.x_val}
        assert not shared and len(data.x_train) == len(data.x_val) == 64
        return {"train": 0.9, "validation": 0.5 + 0.1 * size.epochs + 0.01 * (seed - 100), "seconds": 1.0}

    monkeypatch.setattr(sweep, "train", train)
    done = sweep.main(out=tmp_path, smoke=True)
    assert [run["epochs"] for run in done["runs"]] == [1] * 4 + [2] * 4 and {seed for _, _, seed in asked} == {100}
    assert "| + average of the weights | 0.5 | 60.0 (90.0) | 70.0 (90.0) |" in capsys.readouterr().out
    assert sweep.main(out=tmp_path, show=tmp_path / "ladder_sweep_smoke.json") == done
    assert (tmp_path / "ladder_sweep.png").stat().st_size > 10_000
    done = sweep.main(out=tmp_path, smoke=True, seeds=3, strengths=(0.5,))
    assert [(run["strength"], run["seed"]) for run in done["runs"]] == [(0.5, 100 + i // 2) for i in range(6)]
    assert "| + average of the weights | 0.5 | 61.0 ± 1.0 (90.0) | 71.0 ± 1.0 (90.0) |" in capsys.readouterr().out


@pytest.mark.once
def test_a_weaker_recipe_has_all_of_its_parts_weaker(ladder, sweep):
    top = ladder.recipe("+ average of the weights")
    half = sweep.weakened(top, 0.5, epochs=160, usual=40)
    scaled = {"share_erased": 0.375, "dropout": 0.1, "l2": 2.5e-4, "rotation": 2.5, "share_mixed": 0.25}
    assert half == dataclasses.replace(
        top, **scaled, smoothing=0.05, bn_noise=0.05, drop_path=0.05, gamma=pytest.approx(0.96**0.25)
    )
    numbers = {name for name, value in vars(top).items() if isinstance(value, float)} - {"gamma", "noise"}
    assert all(getattr(half, name) == getattr(top, name) / 2 for name in numbers)  # none is forgotten
    assert sweep.weakened(top, 1.0, 40, 40) == top
