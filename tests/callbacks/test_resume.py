"""A training that was interrupted and taken up again equals one in one go, bit for bit."""

import pathlib

import keras
import numpy as np
import pytest
from callbacks.helpers import make_model
from callbacks.persisted_training import At
from harness import BACKEND, fewer, raises_received

from keras_reg import layers, training
from keras_reg.callbacks import GradientHistograms, SmoothedEarlyStopping, persist
from keras_reg.training import RegularizedModel

X = np.random.default_rng(0).random((12, 8, 8, 2), "float32")
Y = np.arange(12) % 3


class Killed(Exception):
    pass


def killed():
    raise Killed


def network(*parts, last=()):
    found = [keras.Input(X.shape[1:]), *parts, keras.layers.Flatten(), *last, keras.layers.Dense(3)]
    return keras.Sequential(found)


def with_layers_of_keras(seed):
    flip = keras.layers.RandomFlip(seed=seed)
    last = [keras.layers.Dropout(0.5, seed=seed), keras.layers.GaussianNoise(0.5, seed=seed)]
    return network(flip, last=last)


def with_ours(seed):
    parts = [
        layers.RandomErasing(1.0, seed=seed),
        layers.NoisyBatchNormalization(0.5, seed=seed),
        layers.DropBlock2D(0.3, 2, seed=seed),
        layers.FractionalMaxPooling2D((1.5, 1.4), seed=seed),
        layers.DropPath(0.3, seed=seed),
    ]
    noisy = layers.WeightNoise(keras.layers.Dense(4), 0.2, seed=seed)
    return network(*parts, last=[layers.DropConnect(keras.layers.Dense(5), 0.4, seed=seed), noisy])


def augmented(seed):
    mixers = layers.RandomChoice([layers.MixUp(1.0), layers.CutMix(1.0)], mode="sample")
    inner = [layers.RandomPadCrop(2), keras.layers.RandomFlip(seed=seed), mixers]
    return RegularizedModel(network(last=[keras.layers.Dropout(0.5, seed=seed)]), layers.Pipeline(inner, seed=seed))


def with_parts(seed):
    """Every part of a training step, with a mixture inside the network."""
    hidden = [keras.layers.Dense(5, name="hidden"), keras.layers.Dropout(0.5, seed=seed)]
    penalties = [
        training.VirtualAdversarial(0.5, seed=seed),
        training.ConsistentDropout(),
        training.ConfidencePenalty(0.1),
        training.JensenShannonConsistency(layers.RandomGaussianNoise(0.1, seed=seed)),
    ]
    parts = {"augmentation": layers.MixUp(seed=seed), "penalties": penalties, "mix_at": ["hidden", "flat"]}
    flat = keras.layers.Flatten(name="flat")
    net = keras.Sequential([keras.Input(X.shape[1:]), flat, *hidden, keras.layers.Dense(3)])
    return RegularizedModel(net, sharpness=training.SharpnessAware(0.1, every=2), **parts)


MODELS = {"keras": with_layers_of_keras, "ours": with_ours, "augmented": augmented, "parts": with_parts}


def fit(make, directory, start, epoch=None, shuffle=False, epochs=3, **options):
    """What a program does that is started again: everything is made anew, from another state of the process."""
    keras.utils.set_random_seed(start)
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, **options)
    callbacks = persist([At(epoch, killed)], directory)
    history = model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=shuffle, callbacks=callbacks, verbose=0)
    assert not pathlib.Path(directory).exists()
    return model.get_weights(), history.history


def check_resume(make, tmp_path, epoch=2, **options):
    expected, history = fit(make, tmp_path / "whole", 1, **options)
    with pytest.raises(Killed):
        fit(make, tmp_path / "backup", 1, epoch, **options)
    weights, resumed = fit(make, tmp_path / "backup", 2, **options)
    assert resumed == history
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one, other)


DRAWING = [("keras", None), ("ours", None), ("augmented", 7), ("parts", None)]


@pytest.mark.parametrize(("name", "seed"), fewer(DRAWING, [("parts", None)]))
def test_all_draws_in_the_model_go_on(tmp_path, name, seed):
    check_resume(lambda: MODELS[name](seed), tmp_path)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has one state for both, and takes seconds for an eager step.")
def test_all_draws_go_on_in_eager_steps(tmp_path):
    check_resume(lambda: augmented(None), tmp_path, epoch=1, epochs=2, run_eagerly=True)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow shuffles by a state that cannot be read.")
def test_the_order_of_shuffled_arrays_goes_on(tmp_path):
    check_resume(lambda: with_layers_of_keras(None), tmp_path, shuffle=True)


# The folder -----------------------------------------------------------------------------------------------------------


def train(directory, epoch=None, callbacks=(), epochs=4, **options):
    """A tiny training; killed in `epoch` if there is one."""
    data = X[:, :2, 0, 0], X[:, :1, 0, 1]
    callbacks = persist([*callbacks, At(epoch, killed)], directory, **options)
    return make_model().fit(*data, batch_size=4, epochs=epochs, shuffle=False, callbacks=callbacks, verbose=0)


@pytest.fixture
def left_behind(tmp_path):
    """The folder of a training that was killed in its fourth epoch."""
    with pytest.raises(Killed):
        train(tmp_path / "backup", 3)
    return tmp_path / "backup"


def test_what_else_is_in_the_folder_stays(tmp_path):
    own = tmp_path / "own"
    (own / "folder").mkdir(parents=True)
    names = ["notes.txt", "callbacks-notes.npz", "callbacks-1.npz.old", "callbacks-99.npz", "model.weights.h5"]
    for name in (*names, "folder/more.txt"):
        (own / name).write_text("mine")
    train(own)
    train(own)
    assert sorted(path.name for path in own.iterdir()) == sorted([*names, "folder"])
    assert all((own / name).read_text() == "mine" for name in (*names, "folder/more.txt"))


def test_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Killed):
        train(tmp_path / "link", 2)
    assert train(tmp_path / "link").epoch == [0, 1, 2, 3]
    assert (tmp_path / "link").is_symlink() and list((tmp_path / "real").iterdir()) == []


def test_links_in_the_folder_are_replaced_and_never_written_through(tmp_path):
    """Whatever is written, where a link of its name waits; dangling links, too."""
    target, folder = tmp_path / "target", tmp_path / "backup"
    with pytest.raises(Killed):
        train(folder, 2, [GradientHistograms()])
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 7  # two of weights, two of numbers, two of states, one that grows
    for name in (*names, *(f"unfinished-{name}" for name in names)):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    target.write_text("mine")
    with pytest.warns(UserWarning, match="starts over"):
        train(folder, None, [GradientHistograms()])
    assert target.read_text() == "mine" and not folder.exists()
    target.unlink()
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(target)
    train(folder, None, [GradientHistograms()])
    assert not target.exists() and not folder.exists()


FOREIGN = {
    "empty": b"",
    "cut": None,
    "text": b"nothing of ours",
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    "list": b"[1, 2]",
    "number": b'{"epoch": "seven"}',
    "other arrays": "npz",
}


def spoil(path, kind):
    if kind == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "other arrays":
        with open(path, "wb") as file:
            np.savez(file, array=np.arange(3), record=np.frombuffer(b'{"epoch": 3}', "uint8"))
    else:
        path.write_bytes(FOREIGN[kind])


@pytest.mark.parametrize("kind", fewer(FOREIGN, ["cut"]))
@pytest.mark.parametrize("name", ["callbacks-3.npz", "latest.weights.h5"])
def test_where_the_last_epoch_is_damaged_the_one_before_is_taken(left_behind, name, kind):
    spoil(left_behind / name, kind)
    begun = []
    with pytest.warns(UserWarning, match="resumes after the earlier epoch 2"):
        history = train(
            left_behind, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, _: begun.append(e))]
        )
    assert begun == [2, 3] and history.epoch == [0, 1, 2, 3] and not left_behind.exists()


@pytest.mark.parametrize("kind", fewer(FOREIGN, ["cut"]))
def test_a_damaged_number_of_epochs_changes_nothing(left_behind, kind):
    spoil(left_behind / "training_metadata.json", kind)
    assert train(left_behind).history == train(left_behind).history


@pytest.mark.parametrize("kind", fewer(["empty", "cut", "other arrays"], ["cut"]))
def test_where_all_is_damaged_training_starts_anew(left_behind, kind):
    for path in left_behind.iterdir():
        spoil(path, kind)
    with pytest.warns(UserWarning, match="training starts over"):
        history = train(left_behind)
    assert history.epoch == [0, 1, 2, 3] and history.history == train(left_behind).history


def test_states_that_are_damaged_beside_whole_weights(left_behind):
    for name in ("callbacks-2.npz", "callbacks-3.npz"):
        (left_behind / name).write_bytes(b"")
    with pytest.warns(UserWarning, match="callbacks, so they start over"):
        assert train(left_behind).epoch == [3]


def test_a_folder_of_another_model_is_refused_before_anything_is_lost(left_behind):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights(), {path.name: path.read_bytes() for path in left_behind.iterdir()}
    with raises_received("shapes=[[2, 2]", "same model"):
        model.fit(X[:, :2, 0, 0], Y, callbacks=persist([At(None, killed)], left_behind), verbose=0)
    after = model.get_weights(), {path.name: path.read_bytes() for path in left_behind.iterdir()}
    assert before[1] == after[1] and all(map(np.array_equal, before[0], after[0]))


def test_a_plain_backup_of_another_model_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(5)])
    model.compile("sgd", "mse")
    (tmp_path / "backup").mkdir()
    model.save_weights(tmp_path / "backup" / "latest.weights.h5")
    (tmp_path / "backup" / "training_metadata.json").write_text('{"epoch": 1, "batch": 0}')
    with raises_received("same model", "backup_dir="):
        train(tmp_path / "backup")


def test_a_fit_that_ended_in_an_error_leaves_the_model_as_keras_would(tmp_path):
    """The next `fit` of the same model begins with its first epoch, though this one was taken up in the third."""
    data = X[:, :2, 0, 0], X[:, :1, 0, 1]
    model = make_model()
    with pytest.raises(Killed):
        train(tmp_path / "backup", 2)
    with pytest.raises(Killed):
        model.fit(*data, epochs=4, callbacks=persist([At(3, killed)], tmp_path / "backup"), batch_size=4, verbose=0)
    assert model.fit(*data, epochs=2, verbose=0).epoch == [0, 1]
    assert model.fit(*data, epochs=4, initial_epoch=2, verbose=0).epoch == [2, 3]


# States ---------------------------------------------------------------------------------------------------------------


def test_histograms_are_written_once(tmp_path):
    """Each epoch writes what is new, and a resumed training has all of them."""
    sizes = []

    class Sizes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            found = {path.name: path.stat().st_size for path in (tmp_path / "backup").glob("callbacks-*")}
            sizes.append((found.pop("callbacks-growth.bin", 0), max(found.values(), default=0)))

    def recording():
        return GradientHistograms(bins=512)

    whole = recording()
    train(tmp_path / "whole", callbacks=[whole], epochs=12)
    with pytest.raises(Killed):
        train(tmp_path / "backup", 7, [recording(), Sizes()], epochs=12)
    grown, states = map(np.array, zip(*sizes, strict=True))
    steps = np.diff(grown[1:])
    assert (steps > 4096).all() and steps.max() < 1.1 * steps.min()
    assert states[-1] < states[1] + 1000 and states[-1] < 2 * steps[0]
    resumed = recording()
    train(tmp_path / "backup", None, [resumed], epochs=12)
    for kind, records in whole.history.items():
        assert [record["epoch"] for record in resumed.history[kind]] == [record["epoch"] for record in records]
        for one, other in zip(resumed.history[kind], records, strict=True):
            for path, found in other["variables"].items():
                np.testing.assert_array_equal(one["variables"][path]["counts"], found["counts"])
                assert one["variables"][path]["norm"] == found["norm"]


def test_a_state_that_cannot_be_written_is_refused_before_the_first_epoch(tmp_path):
    class Odd(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epochs += 1

        def state_dict(self):
            return {"model": object()}

    odd = Odd()
    with raises_received("`state_dict` of Odd"):
        train(tmp_path / "backup", callbacks=[odd])
    assert odd.epochs == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"callbacks": [1]},
        {"callbacks": None},
        {"callbacks": "early"},
        {"callbacks": [SmoothedEarlyStopping]},
        {"backup_dir": None},
        {"backup_dir": ""},
        {"backup_dir": 3},
        {"backup_dir": b"backup"},
        {"backup_dir": "a\0b"},
        {"backup_dir": __file__},
        {"delete_checkpoint": "no"},
        {"delete_checkpoint": 0},
    ],
    ids=str,
)
def test_arguments(arguments, tmp_path):
    with raises_received(next(iter(arguments))):
        persist(**{"callbacks": [], "backup_dir": tmp_path, **arguments})
    persist([], tmp_path, np.True_)


def test_a_list_that_is_given_twice_is_refused(tmp_path):
    with raises_received("BackupAndRestore"):
        persist(persist([], tmp_path), tmp_path / "b")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="The others build the model before the first callback.")
def test_an_unbuilt_model_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with raises_received("built before `fit`"):
        model.fit(X[:, 0, 0], Y, callbacks=persist([], tmp_path), verbose=0)
