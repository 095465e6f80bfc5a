import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from harness import HANGS_AFTER, child_environment, raises_received
from transfer import resumed_transfer
from transfer.networks import flat_backbone, images
from transfer.resumed_transfer import NAMES, train

import keras_reg
from keras_reg.transfer import Phase, TransferLearner


class Killed(Exception):
    pass


def killed_in(*names):
    """Fails once in each of these phases."""
    left = list(names)

    def action(name):
        if name in left:
            left.remove(name)
            raise Killed

    return action


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole") / "backup", verbose=0)


def assert_same(actual, expected):
    assert actual["names"] == expected["names"] == list(NAMES)
    assert actual["epoch"] == expected["epoch"] == list(range(9))
    assert actual["history"].keys() == expected["history"].keys()
    for name, values in expected["history"].items():
        assert actual["history"][name] == pytest.approx(values, rel=1e-4), name
    for one, other in zip(actual["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_in_its_phase(uninterrupted, tmp_path):
    environment = child_environment()
    command = [sys.executable, resumed_transfer.__file__, str(tmp_path)]
    pause = tmp_path / "paused"
    with subprocess.Popen([*command, str(pause), "top"], env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + HANGS_AFTER
        while not pause.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pause.exists(), f"The process ended by itself or hung: {process.poll()}"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "result.json").exists()
    done = subprocess.run(command, env=environment, check=True, timeout=HANGS_AFTER, capture_output=True, text=True)
    assert "Resuming at phase 2, 'top'." in done.stdout and "Phase 1 of 3" not in done.stdout
    assert_same(json.loads((tmp_path / "result.json").read_text()), uninterrupted)


def test_killed_in_every_phase(uninterrupted, tmp_path):
    """Each start makes other random weights before it takes up the saved ones."""
    action = killed_in(*NAMES)
    for seed in (7, 8, 9):
        with pytest.raises(Killed):
            train(tmp_path / "backup", action, build_seed=seed, verbose=0)
        assert (tmp_path / "backup").exists()
    assert_same(train(tmp_path / "backup", build_seed=10, verbose=0), uninterrupted)
    # Killed before the model was saved: the same program gets it at once.
    action = killed_in(*NAMES)
    assert_same(train(tmp_path / "backup", action, build_seed=11, verbose=0), uninterrupted)


# Backups that do not belong.


def learner(filters=3):
    head = keras.layers.Dense(filters, name="head")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return TransferLearner(flat_backbone(), head, keras.layers.Rescaling(1 / 255), loss=loss, run_eagerly=True)


def sgd():
    return keras.optimizers.SGD(0.01)


class Stop(keras.callbacks.Callback):
    """Fails in an epoch, counted over all phases."""

    def __init__(self, epoch=1):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


@pytest.fixture
def left_behind(tmp_path):
    """The folder of a training that was killed in its second phase."""
    phases = [Phase("warm up", 1, optimizer=sgd()), Phase("all", 2, "all", sgd(), callbacks=[Stop()])]
    with pytest.raises(Killed):
        learner().fit(images(6), phases=phases, backup_dir=tmp_path / "backup", verbose=0)
    return tmp_path / "backup"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_of_another_model(left_behind):
    before = files(left_behind)
    assert before
    other = learner(4)
    weights = other.model.get_weights()
    with raises_received("backup_dir", "(6, 3)", "(6, 4)"):
        other.fit(images(6), phases=[Phase("warm up", 1), Phase("all", 2, "all")], backup_dir=left_behind, verbose=0)
    assert files(left_behind) == before
    assert all(np.array_equal(a, b) for a, b in zip(weights, other.model.get_weights(), strict=True))


@pytest.mark.parametrize("phases", [[Phase("warm up", 1), Phase("more", 2, "all")], [Phase("warm up", 1)]])
def test_a_backup_of_other_phases(left_behind, phases):
    before = files(left_behind)
    with raises_received("phases", "warm up"):
        learner().fit(images(6), phases=phases, backup_dir=left_behind, verbose=0)
    assert files(left_behind) == before


def test_more_epochs_are_the_same_phases(left_behind):
    made = learner()
    phases = [Phase("warm up", 1, optimizer=sgd()), Phase("all", 4, "all", sgd())]
    history = made.fit(images(6), phases=phases, backup_dir=left_behind, verbose=0)
    assert len(history.epoch) == 5


def fit(made, folder, epochs=2, callbacks=(), **arguments):
    phases = [Phase("warm up", 1, optimizer=sgd()), Phase("all", epochs, "all", sgd(), callbacks=callbacks)]
    return made.fit(images(6), phases=phases, backup_dir=folder, seed=1, verbose=0, **arguments)


def test_it_stays_when_the_next_data_are_refused(tmp_path):
    made = learner()
    phases = [Phase("warm up", 1, optimizer=sgd())]
    made.fit(images(6), phases=phases, backup_dir=tmp_path, verbose=0)
    kept = sorted(os.listdir(tmp_path))
    with raises_received("labels=[3]"):
        made.fit((images(6)[0], np.full(6, 3)), phases=phases, backup_dir=tmp_path, verbose=0)
    assert sorted(os.listdir(tmp_path)) == kept


def test_it_stays_until_the_same_learner_begins_anew(tmp_path):
    made = learner()
    start = made.model.get_weights()
    first = fit(made, tmp_path)
    trained = made.model.get_weights()
    other = learner()
    again = fit(other, tmp_path)
    assert again.history == first.history and again.epoch == first.epoch
    assert all(np.array_equal(a, b) for a, b in zip(other.model.get_weights(), trained, strict=True))
    made.model.set_weights(start)
    assert fit(made, tmp_path).history["loss"] == pytest.approx(first.history["loss"])
    assert not np.array_equal(made.model.get_weights()[0], start[0])


def test_more_epochs_after_the_end(tmp_path):
    fit(learner(), tmp_path, epochs=1)
    longer = learner()
    assert len(fit(longer, tmp_path, epochs=3).epoch) == 4


def test_what_else_is_in_the_folder_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fit(learner(), tmp_path, delete_checkpoint=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    fit(learner(), tmp_path / "new", delete_checkpoint=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", None])
def test_a_border_that_is_damaged(left_behind, content):
    """Of both borders: the one before is taken; of all: the training begins anew, with a warning."""
    if content is None:
        np.savez(left_behind / "before-phase-1.npz", something=np.ones(3))
    else:
        (left_behind / "before-phase-1.npz").write_bytes(content)
    with pytest.warns(
        UserWarning, match=r"before-phase-1.npz in .* cannot be read \(damaged, or not a backup\): the training resumes"
    ):
        history = fit(learner(), left_behind)
    assert history.epoch == [0, 1, 2]
    for path in left_behind.glob("*.npz"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match=r"cannot be read \(damaged, or not a backup\): the training starts over"):
        history = fit(learner(), left_behind)
    assert history.epoch == [0, 1, 2]


def test_links_are_not_followed_when_something_is_written(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"mine")
    (tmp_path / "real").mkdir()
    for name in ("before-phase-0.npz", "unfinished.npz", "unfinished-before-phase-1.npz"):
        (tmp_path / "real" / name).symlink_to(tmp_path / "mine.npz")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    with pytest.warns(UserWarning, match=r"cannot be read \(damaged, or not a backup\)"):
        fit(learner(), tmp_path / "link", delete_checkpoint=True)
    assert (tmp_path / "mine.npz").read_bytes() == b"mine"
    assert (tmp_path / "link").is_symlink() and [path.name for path in (tmp_path / "real").iterdir()] == [
        "unfinished.npz"
    ]


@pytest.mark.parametrize("folder", [1, "", b"folder", True, ["folder"], "a\0b", __file__])
def test_bad_folders(folder):
    with raises_received("backup_dir"):
        fit(learner(), folder)


@pytest.mark.parametrize("epoch", [1, 2])  # the first of a phase, and the one after it
def test_random_numbers_go_on_where_they_were(tmp_path, epoch):
    """Seeded and unseeded dropout, and an augmentation, draw after an interruption what they would have drawn."""

    def made():
        keras.utils.set_random_seed(3)
        head = [keras.layers.Dropout(0.5, seed=1), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        erase = keras_reg.layers.RandomErasing(seed=2)
        scale = keras.layers.Rescaling(1 / 255)
        return TransferLearner(flat_backbone(), head, scale, augmentation=erase, loss=loss, run_eagerly=True)

    whole = made()
    expected = fit(whole, tmp_path / "whole").history["loss"]
    with pytest.raises(Killed):
        fit(made(), tmp_path / "killed", callbacks=[Stop(epoch)])
    resumed = made()
    np.random.seed(9)
    assert fit(resumed, tmp_path / "killed").history["loss"] == pytest.approx(expected, rel=1e-5)
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_the_state_of_adam_comes_back(tmp_path):
    """The same as without an interruption, where the number of steps and both moments matter."""

    def phases(*callbacks):
        adam = keras.optimizers.Adam(0.01)
        return [Phase("warm up", 3, optimizer=adam), Phase("all", 2, "all", adam, callbacks=callbacks)]

    x, y = images(6)
    results = []
    start = learner().model.get_weights()
    for callbacks in ((), (Stop(4),)):
        made, folder = learner(), tmp_path / str(len(callbacks))
        made.model.set_weights(start)
        if callbacks:
            with pytest.raises(Killed):
                made.fit((x, y), phases=phases(*callbacks), backup_dir=folder, seed=1, verbose=0)
            made = learner()
        made.fit((x, y), phases=phases(), backup_dir=folder, seed=1, verbose=0)
        results.append(made.model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
