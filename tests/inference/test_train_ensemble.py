"""Members with seeds of their own, which a killed run does not train again, and bootstrap samples."""

import keras
import numpy as np
import pytest
from harness import BACKEND, raises_received, to_numpy

from keras_reg import inference

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 3)).astype("float32"), RNG.standard_normal((12, 1)).astype("float32")


def build():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=BACKEND == "tensorflow")
    return model


class Killed(Exception):
    pass


class Fit:
    """Stands for a training: draws numbers, is killed in place of the training with number `dies`, and counts."""

    def __init__(self, dies=None):
        self.count, self.dies = 0, dies

    def __call__(self, model):
        if self.count == self.dies:
            raise Killed
        self.count += 1
        model.layers[0].kernel.assign_add(np.random.normal(size=(3, 1)))


def same(one, other):
    return all(map(np.array_equal, one.get_weights(), other.get_weights()))


def test_seeds_and_progress(capsys):
    members = inference.train_ensemble(build, Fit(), 3, seed=5)
    assert capsys.readouterr().out.splitlines() == [f"Member {number} of 3: training." for number in (1, 2, 3)]
    again = inference.train_ensemble(build, Fit(), 2, seed=np.int64(5), verbose=0)
    others = inference.train_ensemble(build, Fit(), 2, seed=6, verbose=0)
    assert not capsys.readouterr().out
    assert same(members[0], again[0]) and same(members[1], again[1])
    every = [*members, *others]
    assert not any(same(one, other) for i, one in enumerate(every) for other in every[:i])


def test_a_killed_run_trains_only_what_is_missing(tmp_path, capsys):
    folder, whole = tmp_path / "members", inference.train_ensemble(build, Fit(), 3, verbose=0)
    with pytest.raises(Killed):
        inference.train_ensemble(build, Fit(dies=2), 3, folder=folder, verbose=0)
    fit = Fit()
    found = inference.train_ensemble(build, fit, 3, folder=folder)
    assert fit.count == 1 and all(map(same, found, whole))
    assert "Member 2 of 3: loaded" in capsys.readouterr().out
    (folder / "member-1.npz").write_bytes(b"half of it")
    with pytest.warns(UserWarning, match="damaged"):
        found = inference.train_ensemble(build, fit, 3, folder=folder, verbose=0)
    assert fit.count == 2 and all(map(same, found, whole))
    more = inference.train_ensemble(build, fit, 4, folder=folder, verbose=0)
    assert fit.count == 3 and all(map(same, more, found)) and not same(more[3], more[2])
    with raises_received("`seed`", "seed=1"):
        inference.train_ensemble(build, fit, 3, seed=1, folder=folder, verbose=0)
    with raises_received("`build` must return models like those", "shapes=[(3, 2)"):
        other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        inference.train_ensemble(lambda: other, fit, 1, folder=folder, verbose=0)


def test_half_precision_is_saved(tmp_path):
    def low():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype="bfloat16")])

    (member,) = inference.train_ensemble(low, Fit(), 1, folder=tmp_path / "members", verbose=0)
    (loaded,) = inference.train_ensemble(low, Fit(dies=0), 1, folder=tmp_path / "members", verbose=0)
    assert np.array_equal(*(np.asarray(to_numpy(each.weights[0]), "float32") for each in (member, loaded)))


def test_bootstrap_samples(tmp_path):
    """The share of distinct examples in a sample is 1 - (1 - 1/N)^N."""
    count, samples = 1000, []

    class Recording(keras.Sequential):
        def fit(self, x, y, sample_weight, **arguments):
            np.testing.assert_array_equal(x["a"], to_numpy(y))  # the rows belong together
            np.testing.assert_array_equal(x["b"][1], sample_weight)
            assert arguments == {"epochs": 3, "verbose": 0}
            samples.append(to_numpy(y))

    def recording():
        model = Recording([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    rows = np.arange(count)
    data = ({"a": rows, "b": [rows[:, None], rows * 2.0]}, keras.ops.convert_to_tensor(rows), rows * 2.0)
    inference.bagging(recording, data, 8, epochs=3, verbose=0)
    expected = 1 - (1 - 1 / count) ** count
    # The standard deviation of the mean share of eight samples is 0.0034.
    assert np.mean([len(np.unique(sample)) / count for sample in samples]) == pytest.approx(expected, abs=0.014)
    assert all(len(sample) == count for sample in samples) and not np.array_equal(samples[0], samples[1])
    assert {0, count - 1} <= set(np.concatenate(samples))
    first = samples.copy()
    samples.clear()
    folder = tmp_path / "bags"
    inference.bagging(recording, data, 2, folder=folder, epochs=3, verbose=0)
    inference.bagging(recording, data, 3, folder=folder, epochs=3, verbose=0)  # trains the third
    assert len(samples) == 3 and all(map(np.array_equal, samples, first))
    inference.bagging(recording, data, 1, seed=1, epochs=3, verbose=0)
    assert not np.array_equal(samples[3], first[0])


def test_bagging_trains():
    members = inference.bagging(build, (X, Y), 2, verbose=0, batch_size=12)
    assert not same(*members)
    assert inference.ensemble(members).predict(X, verbose=0).shape == (12, 1)


def test_what_is_refused(tmp_path):
    for name, value in {"build": None, "fit": 3, "n": 0, "seed": None, "folder": 3, "verbose": "yes"}.items():
        with raises_received(f"`{name}`"):
            inference.train_ensemble(**{"build": build, "fit": Fit(), "n": 1, name: value})
    with raises_received("`build` must return a `keras.Model`"):
        inference.train_ensemble(lambda: "model", Fit(), 1, verbose=0)
    model = build()
    with raises_received("new model in each call"):
        inference.train_ensemble(lambda: model, Fit(), 2, verbose=0)
    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    with raises_received("`folder`", "built"):
        inference.train_ensemble(lambda: unbuilt, Fit(), 1, folder=tmp_path / "new", verbose=0)
    for data in (X, (X,), (X, None), [(X, Y), (X, Y), (X, Y), (X, Y)], iter([(X, Y)]), keras.utils.PyDataset(), None):
        with raises_received("`data` must be (x, y)"):
            inference.bagging(build, data, 1)
    for data in ((X, Y[:5]), (X[:0], Y[:0]), (X, 3), ({}, [])):
        with raises_received("same number of examples", "shapes="):
            inference.bagging(build, data, 1)
    with raises_received("must be in `data`", "x='ndarray'"):
        inference.bagging(build, (X, Y), 1, x=X)
    with raises_received("`build` must return a compiled model"):
        inference.bagging(lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), (X, Y), 1, verbose=0)
    with raises_received("`build` must be a function"):
        inference.bagging(build(), (X, Y), 1)
    with raises_received("Pass `validation_data`", "validation_split=0.2"):  # copies would be in both parts
        inference.bagging(build, (X, Y), 1, validation_split=0.2)
