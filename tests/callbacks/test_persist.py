import contextlib
import copy
import json
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from callbacks import persisted_training
from callbacks.helpers import Script, make_model
from callbacks.persisted_training import At, train
from harness import HANGS_AFTER, child_environment, fewer, raises_received, slow_on

from keras_reg.callbacks import SmoothedEarlyStopping, persist


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    result = train(tmp_path_factory.mktemp("whole") / "backup")
    # What the tests below rely on: the best epoch before the interruption in epoch 5, the stop well after.
    assert result["stop"]["best_epoch"] == 4 and result["stop"]["stopped_epoch"] == 8 and len(result["epoch"]) == 9
    return result


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The directory of a training that was interrupted in epoch 5."""
    directory = tmp_path_factory.mktemp("interrupted") / "backup"
    with pytest.raises(Killed):
        train(directory, killed, 5)
    return directory


def assert_same(actual, expected):
    """Nests of numbers and words; numbers to seven digits, since two processes may add in another order."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_same(a, b)
    else:
        assert actual == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected)


class Killed(Exception):
    pass


def killed():
    raise Killed


@pytest.mark.slow
def test_a_killed_process_starts_again_and_ends_like_one_that_was_not(uninterrupted, tmp_path):
    environment = child_environment()
    command = [sys.executable, persisted_training.__file__, str(tmp_path / "backup")]
    pause = tmp_path / "in_epoch_5"
    with subprocess.Popen([*command, str(pause)], env=environment) as process:
        deadline = time.monotonic() + HANGS_AFTER
        while not pause.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pause.exists(), f"The process ended by itself or hung: {process.poll()}"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "result.json").exists()
    subprocess.run(command, env=environment, check=True, timeout=HANGS_AFTER)
    assert_same(json.loads((tmp_path / "result.json").read_text()), uninterrupted)
    assert not (tmp_path / "backup").exists()


@slow_on("tensorflow", "jax")
@pytest.mark.parametrize("epochs", [(0,), (1, 2, 8)])
def test_interruptions_in_other_epochs(uninterrupted, tmp_path, epochs):
    for epoch in epochs:
        with pytest.raises(Killed):
            train(tmp_path / "backup", killed, epoch)
    assert_same(train(tmp_path / "backup"), uninterrupted)


# A kill while the files are being written ---------------------------------------------------------------------------


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _number_not_written(directory):
    metadata = directory / "training_metadata.json"
    metadata.write_text(metadata.read_text().replace("5", "4"))


DAMAGES = {
    "weights": lambda directory: _cut(directory / "latest.weights.h5"),
    "number": lambda directory: _cut(directory / "training_metadata.json"),
    "empty number": lambda directory: (directory / "training_metadata.json").write_text(""),
    "number of the epoch before": _number_not_written,
    "states that are ahead": lambda directory: (directory / "callbacks-6.npz").write_bytes(
        (directory / "callbacks-4.npz").read_bytes()
    ),
    "half a state": lambda directory: (directory / "unfinished-callbacks-6.npz").write_bytes(b"PK"),
}


@pytest.mark.parametrize("damage", fewer(DAMAGES, ["half a state"]))
def test_a_kill_while_writing(uninterrupted, interrupted, tmp_path, damage):
    """A kill leaves no half of the weights, as they take their place when they are whole: such damage is told."""
    directory = tmp_path / "backup"
    shutil.copytree(interrupted, directory)
    assert sorted(path.name for path in directory.glob("*.npz")) == ["callbacks-4.npz", "callbacks-5.npz"]
    DAMAGES[damage](directory)
    told = pytest.warns(UserWarning, match="resumes after the earlier epoch 4")
    with told if damage == "weights" else contextlib.nullcontext():
        assert_same(train(directory), uninterrupted)


def test_a_kill_before_the_first_weights(uninterrupted, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path / "backup", killed, 1)
    for name in ("latest.weights.h5", "training_metadata.json"):
        (tmp_path / "backup" / name).unlink()
    assert_same(train(tmp_path / "backup"), uninterrupted)


def test_a_kill_between_the_decision_to_stop_and_the_end(data, tmp_path):
    class Crash(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            raise Killed

    def fit(*more):
        stop, model = SmoothedEarlyStopping(smoothing=None, patience=2), make_model()
        script = Script(val_loss=[1.0, 2.0, 3.0, 0.0])
        callbacks = persist([*more, script, stop], tmp_path / "backup")
        return stop, model, model.fit(*data, epochs=4, shuffle=False, callbacks=callbacks, verbose=0)

    first = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: first.append(record.model.get_weights()))
    with pytest.raises(Killed):
        fit(Crash(), record)
    with raises_received("callbacks=['0_EarlyStopping', '1_SmoothedEarlyStopping', '2_History']"):
        fit(keras.callbacks.EarlyStopping())  # another callback than those whose states are there
    stop, model, history = fit(keras.callbacks.Callback())  # one more without a state
    assert history.epoch == [0, 1, 2] and stop.stopped_epoch == 2
    for weight, best in zip(model.get_weights(), first[0], strict=True):
        np.testing.assert_array_equal(weight, best)
    # The state that was loaded is used up.
    again = model.fit(*data, epochs=2, callbacks=[Script(val_loss=[5.0, 4.0]), stop], verbose=0)
    assert again.epoch == [0, 1] and stop.best == 4.0


# Use ----------------------------------------------------------------------------------------------------------------


def test_a_kept_checkpoint_returns_the_finished_training(uninterrupted, tmp_path):
    directory = tmp_path / "backup"
    finished = train(directory, delete_checkpoint=False)
    assert_same(finished, uninterrupted)
    again = train(directory, killed, 0, delete_checkpoint=False)  # no epoch is trained
    for part in ("epoch", "history", "stop", "weights"):
        assert_same(again[part], finished[part])


def test_the_next_fit_of_a_resumed_model_starts_at_its_first_epoch(data, tmp_path):
    model, directory = make_model(), tmp_path / "backup"
    with pytest.raises(Killed):
        model.fit(*data, epochs=4, callbacks=persist([At(2, killed)], directory), batch_size=4, verbose=0)
    model = make_model()
    callbacks = persist(keras.callbacks.Callback(), directory)
    assert model.fit(*data, epochs=4, callbacks=callbacks, verbose=0).epoch == [0, 1, 2, 3]
    assert model.fit(*data, epochs=3, verbose=0).epoch == [0, 1, 2]
    assert model.fit(*data, epochs=3, callbacks=callbacks, verbose=0).epoch == [0, 1, 2]  # used twice


def test_states_of_other_people_s_callbacks_and_keras_checkpoint(data, tmp_path):
    class Counter(keras.callbacks.Callback):
        count = 0

        def on_epoch_end(self, epoch, logs=None):
            self.count += 1

        def state_dict(self):
            return {"count": np.int64(self.count), "arrays": {"inner": [np.arange(3)]}}

        def load_state_dict(self, state):
            self.count, self.arrays = state["count"], state["arrays"]

    def callbacks(crash):
        best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True, monitor="loss")
        return [Counter(), best, *crash]

    with pytest.raises(Killed):
        crashing = persist(callbacks([At(2, killed)]), tmp_path / "backup")
        make_model().fit(*data, batch_size=4, epochs=4, callbacks=crashing, verbose=0)
    counter, best, *rest = persist(callbacks([keras.callbacks.Callback()]), tmp_path / "backup")
    crashed = crashing[1].best
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append((counter.count, best.best)))
    make_model().fit(*data, batch_size=4, epochs=4, callbacks=[counter, best, *rest, look], verbose=0)
    assert seen[0] == (2, crashed) and counter.count == 4
    np.testing.assert_array_equal(counter.arrays["inner"][0], [0, 1, 2])


@slow_on("tensorflow", "jax")
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copied_list_works_like_the_list(data, tmp_path, copied):
    """Before a run and after it, a copy keeps the states of the callbacks that are in it."""

    def script(*more):
        return [Script(loss=[4.0, 3.0, 2.0, 1.0]), SmoothedEarlyStopping("loss", smoothing=None, patience=9), *more]

    def fit(callbacks):
        return make_model().fit(*data, epochs=4, batch_size=4, callbacks=callbacks, verbose=0).history["loss"]

    made = persist(script(At(2, killed)), tmp_path / "backup")
    with pytest.raises(Killed):
        fit(copied(made))
    resumed = copied(copied(persist(script(keras.callbacks.Callback()), tmp_path / "backup")))
    assert fit(resumed) == [4.0, 3.0, 2.0, 1.0]
    assert resumed[1].best_epoch == 3 and resumed[1].best == 1.0
    again = copied(resumed)
    assert fit(again) == [4.0, 3.0, 2.0, 1.0] and again[1].best == 1.0


def test_bfloat16_weights(data, tmp_path, set_dtype_policy):
    set_dtype_policy("bfloat16")
    weights = []

    def fit(epoch):
        stop = SmoothedEarlyStopping(smoothing=None, patience=9)
        script = Script(val_loss=[1.0, 0.5, 2.0, 3.0])
        model = make_model()
        record = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.get_weights()))
        callbacks = persist([script, stop, record, At(epoch, killed)], tmp_path / "backup")
        model.fit(*data, epochs=4, batch_size=4, callbacks=callbacks, verbose=0)
        return model.get_weights()

    with pytest.raises(Killed):
        fit(2)
    best = weights[1]
    for actual, expected in zip(fit(None), best, strict=True):
        np.testing.assert_array_equal(actual.astype("float32"), expected.astype("float32"))


def test_a_directory_of_plain_backup_and_restore(data, tmp_path):
    with pytest.raises(Killed):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        make_model().fit(*data, batch_size=4, epochs=4, callbacks=[backup, At(2, killed)], verbose=0)
    with pytest.warns(UserWarning, match="start over"):
        callbacks = persist([], pathlib.Path(tmp_path / "backup"))
        assert make_model().fit(*data, epochs=4, callbacks=callbacks, verbose=0).epoch == [2, 3]


def test_backup_and_restore_is_not_given_twice(tmp_path):
    with raises_received("callbacks=[<keras"):
        persist([keras.callbacks.BackupAndRestore(tmp_path / "a")], tmp_path / "b")
