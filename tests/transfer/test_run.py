"""What phases have in common: one count of epochs, what is frozen on purpose, and what a checkpoint of one holds."""

import gc
import logging
import warnings

import keras
import numpy as np
import pytest
from harness import run_in_fresh_process, slow_on, to_numpy
from keras import layers
from transfer.networks import flat_backbone, images, nested_backbone

import keras_reg
from keras_reg.transfer import Phase, TransferLearner, freeze, unfreeze

X, Y = images(12)


def sgd():
    return keras.optimizers.SGD(0.01, momentum=0.9)


def learner(backbone=None, **arguments):
    backbone = flat_backbone() if backbone is None else backbone
    return TransferLearner(backbone, 3, layers.Rescaling(1 / 255), **{"run_eagerly": True, **arguments})


def fit(made, *phases, **arguments):
    return made.fit(X, Y, phases=list(phases), **{"seed": 1, "verbose": 0, **arguments})


# Epochs.


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)


def test_epochs_are_counted_over_all_phases(tmp_path):
    made, seen = learner(), Seen()
    save = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}.weights.h5", save_weights_only=True)
    history = fit(made, Phase("warm up", 2), Phase("all", 3, "all"), callbacks=[seen, save])
    assert seen.epochs == [0, 1, 2, 3, 4] == history.epoch
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{epoch:02d}.weights.h5" for epoch in range(1, 6)]
    assert [made.history[name].epoch for name in made.history] == [[0, 1], [2, 3, 4]]
    assert [len(made.history[name].history["loss"]) for name in made.history] == [2, 3]
    # A second training begins at 0 again.
    again = Seen()
    fit(made, Phase("warm up", 2), callbacks=again)
    assert again.epochs == [0, 1]


def test_a_phase_that_stops_early_shifts_the_next_ones():
    made, seen = learner(), Seen()

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch in (1, 4)

    fit(made, Phase("warm up", 5, callbacks=[Stop()]), Phase("all", 9, "all", callbacks=Stop()), callbacks=[seen])
    assert seen.epochs == [0, 1, 2, 3, 4]


def test_decay_begins_with_its_phase():
    made = learner()
    phases = [Phase(name, 3, unfreeze, keras.optimizers.SGD(0.1), callbacks=[keras_reg.callbacks.ExponentialLR(0.5)])
              for name, unfreeze in (("warm up", None), ("all", "all"))]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = fit(made, *phases).history
    assert history["learning_rate"] == pytest.approx([0.1, 0.05, 0.025] * 2)


def test_what_is_said_of_phases_is_logged_without_interactive_logging(capsys, caplog):
    def said():
        fit(learner(), Phase("warm up", 2), verbose=2)
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if line.startswith(("Phase 1 of 1", "Computing the features"))]

    shown = said()
    assert len(shown) == 2
    keras.config.disable_interactive_logging()
    with caplog.at_level(logging.INFO, "keras_reg"):
        assert said() == []
    assert [record.message for record in caplog.records if record.name == "keras_reg"] == shown


# What was frozen on purpose.


def moved(made, *phases):
    """The weights of the backbone that a training changes, as "layer/weight"."""
    weights = [(f"{layer.name}/{weight.name}", weight) for layer in made.backbone.layers for weight in layer.weights]
    before = [to_numpy(weight).copy() for _, weight in weights]
    fit(made, *phases)
    pairs = zip(weights, before, strict=True)
    return {name for (name, weight), value in pairs if not np.array_equal(to_numpy(weight), value)}


def test_lora_in_phases():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(inputs)
    x = layers.Dense(5, "tanh", name="one")(layers.Dense(4, "tanh", name="zero")(x))
    backbone = keras.Model(inputs, x, name="net")
    backbone.get_layer("one").enable_lora(2)
    adapted = {f"one/{name}" for name in ("bias", "lora_kernel_a", "lora_kernel_b")}
    two_steps = Phase("all", 2, "all", sgd())  # the first moves b alone, since b is 0
    assert moved(learner(backbone), Phase("warm up", 1), two_steps) == adapted | {"zero/kernel", "zero/bias"}
    # All but LoRA frozen, as `enable_lora` of KerasHub's backbones does it.
    backbone.get_layer("zero").trainable = False
    assert moved(learner(backbone), Phase("warm up", 1), two_steps) == adapted


def test_what_is_frozen_beside_others_stays_so(capsys):
    """Unless a glob names it. Where all is frozen, as by `backbone.trainable = False`, phases open what they say."""
    backbone = flat_backbone()
    backbone.get_layer("block1_conv").trainable = False
    made = learner(backbone)

    def kernels(phase):
        # Decay moves what trains even where a gradient is 0.
        phase.optimizer = keras.optimizers.SGD(0.01, weight_decay=0.1)
        return {name.split("/")[0] for name in moved(made, phase)}

    assert kernels(Phase("all", 1, "all")) == {"block2_conv", "block3_conv"}
    assert kernels(Phase("last", 1, 1000)) == {"block2_conv", "block3_conv"}
    assert kernels(Phase("named", 1, ["block1_*", "block3_*"])) == {"block1_conv", "block3_conv"}
    assert not backbone.get_layer("block1_conv").trainable
    made.fit(X, Y, phases=Phase("all", 1, "all", sgd()), verbose=2)
    assert "1 layer stays frozen, as before: block1_conv" in capsys.readouterr().out
    backbone.trainable = False
    assert kernels(Phase("all", 1, "all")) == {"block1_conv", "block2_conv", "block3_conv"}


def test_what_was_remembered_is_put_back_with_the_rest():
    backbone = nested_backbone()
    block = backbone.get_layer("block")
    freeze(backbone)
    unfreeze(backbone, "block/second")
    made = TransferLearner(backbone, 3, run_eagerly=True)
    made.fit(np.ones((4, 3, 5)), Y[:4], phases=[Phase("all", 1, "block")], verbose=0)
    assert block.trainable and not block.scale.trainable
    unfreeze(backbone, "block")
    assert block.scale.trainable


# Checkpoints.


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("unfreeze", [2, "all", None])
def test_a_checkpoint_of_a_phase_loads_with_its_optimizer(unfreeze, augmented, tmp_path):
    augmentation = keras_reg.layers.RandomErasing(seed=1) if augmented else None
    kept = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept["optimizer"] = [to_numpy(variable).copy() for variable in self.model.optimizer.variables]
            kept["trainable"] = len(self.model.trainable_variables)

    save = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    made = learner(keras.Model(*ends_of(flat_backbone().layers[:-2])), augmentation=augmentation)
    fit(made, Phase("warm up", 1), Phase("top", 1, unfreeze, sgd()), callbacks=[Keep(), save])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        loaded = keras.models.load_model(tmp_path / "2.keras")
    assert len(loaded.trainable_variables) == kept["trainable"]
    for variable, value in zip(loaded.optimizer.variables, kept["optimizer"], strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


def ends_of(layers):
    """(input, output) of a model that is cut off behind these layers."""
    return layers[0].output, layers[-1].output


# Buffers.


@slow_on("tensorflow", "jax")
def test_using_one_model_leaves_the_others_bit_for_bit():
    """Copies, learners on copies, and learners that share phases: no buffer of one is donated by another."""
    first = flat_backbone()
    clones = [keras.models.clone_model(first) for _ in range(2)]
    for clone in clones:
        clone.set_weights([np.array(weight) for weight in first.get_weights()])
    adam = keras.optimizers.Adam(0.01, use_ema=True)
    phases = [Phase("warm up", 2, optimizer=adam), Phase("all", 1, "all", adam), Phase("again", 1, "all", adam)]
    made = [learner(clone, run_eagerly=False) for clone in clones]
    before = [np.array(weight) for weight in made[1].model.get_weights()]
    start = [np.array(weight) for weight in made[0].model.get_weights()]
    fit(made[0], *phases)
    assert all(np.array_equal(a, b) for a, b in zip(before, made[1].model.get_weights(), strict=True))
    trained = [np.array(weight) for weight in made[0].model.get_weights()]
    made[1].model.set_weights(start)
    fit(made[1], *phases)
    assert all(np.array_equal(a, b) for a, b in zip(trained, made[0].model.get_weights(), strict=True))
    for one, other in zip(made[1].model.get_weights(), trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    gc.collect()
    made[0].model.predict(X, verbose=0)
    for clone, weight in zip(first.get_weights(), before, strict=False):
        np.testing.assert_array_equal(clone, weight)


# Files.


@slow_on("tensorflow", "jax")
def test_a_kill_leaves_no_feature_files(tmp_path):
    code = f"""
        import os, signal, tempfile
        import keras
        tempfile.tempdir = {str(tmp_path)!r}
        from transfer.networks import flat_backbone, images
        from keras_reg.transfer import Phase, TransferLearner

        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                print("killed with", os.listdir(tempfile.tempdir), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

        TransferLearner.cache_memory = 10
        learner = TransferLearner(flat_backbone(), 3)
        learner.fit(*images(6), phases=[Phase("a", 2, callbacks=[Kill()])], verbose=0)
    """
    with pytest.raises(AssertionError, match="killed with"):
        run_in_fresh_process(code)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("features" in path.name or b"NUMPY" in path.read_bytes() for path in left)


def test_a_link_in_the_folder_of_features_is_not_followed(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    folder = tmp_path / "features"
    folder.mkdir()
    (folder / "train_features.npy").symlink_to(tmp_path / "mine")
    made = learner()
    fit(made, Phase("warm up", 2, cache_features=folder))
    assert (tmp_path / "mine").read_bytes() == b"mine"
    stored = np.load(folder / "train_features.npy")
    np.testing.assert_allclose(stored, made.parts.extractor.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
