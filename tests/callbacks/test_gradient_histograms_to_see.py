"""What `GradientHistograms` shows: event files, as TensorBoard reads them, and figures."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
from callbacks.helpers import make_model
from harness import HANGS_AFTER, raises_received

from keras_reg.callbacks import GradientHistograms


@pytest.fixture
def trained(data, tmp_path):
    """A callback that has watched two epochs, and where its event files are."""
    callback = GradientHistograms(tmp_path, probe=(data[0][:4], data[1][:4]))
    make_model().fit(*data, batch_size=4, epochs=2, callbacks=[callback], verbose=0)
    return callback, tmp_path


def read(folder):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(folder), {"histograms": 0, "scalars": 0})
    events.Reload()
    return events


def test_tensorboard_reads_what_is_in_the_history(trained):
    callback, folder = trained
    events = read(folder)
    paths = ["dense/kernel", "dense/bias"]
    kinds = ["gradients", "weights", "probe"]
    histograms = [*kinds, "gradients_log10", "probe_log10"]
    assert set(events.Tags()["histograms"]) == {f"{kind}/{path}" for kind in histograms for path in paths}
    scalars = {
        f"{kind}_{name}/{path}" for kind in kinds for name in ("norm", "zero_fraction", "non_finite") for path in paths
    }
    assert set(events.Tags()["scalars"]) == scalars | {f"{kind}_norm/all" for kind in kinds} | {"skipped_steps"}
    for kind in kinds:
        for path in paths:
            check_histograms(events.Histograms(f"{kind}/{path}"), callback, kind, path)
            norms = [record["variables"][path]["norm"] for record in callback.history[kind]]
            np.testing.assert_allclose(
                [event.value for event in events.Scalars(f"{kind}_norm/{path}")], norms, rtol=1e-6
            )


def check_histograms(events, callback, kind, path):
    assert [event.step for event in events] == [0, 1]
    for event, record in zip(events, callback.history[kind], strict=True):
        seen, found = event.histogram_value, record["variables"][path]
        assert seen.num == found["size"]
        np.testing.assert_allclose([seen.min, seen.max], [found["min"], found["max"]], rtol=1e-6)
        np.testing.assert_allclose(seen.sum, found["mean"] * found["size"], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(seen.sum_squares, found["norm"] ** 2, rtol=1e-5)
        # The same counts between the same edges, from the first bucket that holds something to the last.
        edges = found.get("edges", callback.edges)
        filled = np.flatnonzero(found["counts"])
        np.testing.assert_array_equal(seen.bucket, found["counts"][filled[0] : filled[-1] + 1])
        limits = np.minimum(edges[filled[0] + 1 : filled[-1] + 2].astype("float64"), np.finfo("float64").max)
        np.testing.assert_allclose(seen.bucket_limit, limits, rtol=1e-6)
        assert seen.min <= seen.bucket_limit[0] and (len(limits) == 1 or seen.bucket_limit[-2] <= seen.max)


def test_tensorboards_steps_are_steps_where_steps_are_watched(data, tmp_path):
    callback = GradientHistograms(str(tmp_path), every=2, weights=False, norms=False)
    make_model().fit(*data, batch_size=4, epochs=2, callbacks=[callback], verbose=0)
    events = read(tmp_path)
    assert [event.step for event in events.Histograms("gradients/dense/kernel")] == [0, 2, 4]
    kinds = ["gradients", "gradients_log10"]
    assert set(events.Tags()["histograms"]) == {f"{kind}/dense/{name}" for kind in kinds for name in ("kernel", "bias")}
    assert events.Tags()["scalars"] == ["skipped_steps"]


def test_what_is_not_finite_or_zero_can_be_written(tmp_path):
    model = make_model()
    callback = GradientHistograms(tmp_path)
    x, y = np.ones((4, 2), "float32"), np.full((4, 1), 2.5, "float32")  # the output is 2
    callback.measure(model, x * np.array([np.inf, 1.0], "float32"), y, step=0)
    callback.measure(model, x, np.full((4, 1), 2.0, "float32"), step=1)
    callback.measure(model, x * 1e15, y, step=2)
    callback.on_train_end()
    events = read(tmp_path)
    non_finite = [event.value for event in events.Scalars("probe_non_finite/dense/kernel")]
    assert non_finite[0] > 0 and non_finite[1:] == [0, 0]
    zero, huge = (event.histogram_value for event in events.Histograms("probe/dense/kernel")[-2:])
    assert (zero.min, zero.max, zero.num) == (0, 0, 2) and list(zero.bucket) == [2]
    assert huge.bucket_limit[-1] > 1e300 and list(huge.bucket) == [2]


def test_orders_of_magnitude_have_a_linear_axis(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="zeros", name="dense")(inputs))
    model.compile("sgd", "mse")
    callback = GradientHistograms(tmp_path)
    x = np.array([[2e-9, -3e-9, 0.1, 0.0, 1e-30, -1e8]], "float32")  # the gradient, where the output is 0.5 too large
    callback.measure(model, x, np.array([[-0.5]]))
    callback.measure(model, 0 * x, np.array([[-0.5]]), step=1)
    callback.on_train_end()
    events = read(tmp_path)
    (seen,) = (event.histogram_value for event in events.Histograms("probe_log10/dense/kernel"))
    limits, step = np.array(seen.bucket_limit), 18 / 30
    np.testing.assert_allclose(limits[:2], [-15, -15 + step], rtol=1e-6)
    filled = {round(limit, 1): count for limit, count in zip(limits, seen.bucket, strict=True) if count}
    # Each is in the bucket that ends next above its logarithm; what is beyond the ends is in the buckets outside.
    assert filled == {-15.0: 1, -8.4: 2, -0.6: 1, 3.6: 1} and seen.num == 5
    np.testing.assert_allclose([seen.min, seen.max], [-15 - step, 3 + step], rtol=1e-6)


@contextlib.contextmanager
def tensorboard(folder):
    """The address of a TensorBoard that serves the folder on loopback."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [*command, "--load_fast=false"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        for line in process.stdout:
            if found := re.search(r"http://[\d.]+:\d+", line):
                yield found.group()
                return
        raise AssertionError("TensorBoard ended without an address.")
    finally:
        process.terminate()
        process.communicate(timeout=HANGS_AFTER)


def ask(address, tries=2 * HANGS_AFTER):
    """What is at the address, as soon as TensorBoard has read its files."""
    for _ in range(tries):
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(address, timeout=HANGS_AFTER) as answer,
        ):
            if found := json.load(answer):
                return found
        time.sleep(0.5)
    raise AssertionError(f"nothing at {address}")


@pytest.mark.slow
def test_a_real_tensorboard_serves_the_histograms(trained):
    pytest.importorskip("tensorboard")
    callback, folder = trained
    with tensorboard(folder) as address:
        tags = ask(f"{address}/data/plugin/histograms/tags")["."]
        assert "gradients/dense/kernel" in tags
        query = urllib.parse.urlencode({"run": ".", "tag": "gradients/dense/kernel"})
        answer = ask(f"{address}/data/plugin/histograms/histograms?{query}")
    assert [step for _, step, _ in answer] == [0, 1]
    for (_, _, buckets), record in zip(answer, callback.history["gradients"], strict=True):
        found = record["variables"]["dense/kernel"]
        left, right, counts = np.array(buckets).T
        assert counts.sum() == found["size"]
        np.testing.assert_allclose([left[0], right[-1]], [found["min"], found["max"]], rtol=1e-6)
        assert (left <= right).all()


def test_without_tensorboardx(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    GradientHistograms()
    with pytest.raises(ImportError, match=r"keras-reg\[tensorboard\]"):
        GradientHistograms(tmp_path)


# Figures.


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_plot(trained):
    callback, _ = trained
    axes = callback.plot()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["dense/kernel", "dense/bias"]
    for line, record in zip(axes.get_lines(), callback.history["gradients"], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), [found["norm"] for found in record["variables"].values()])
    assert axes.get_yscale() == "log" and "norm of gradients" in axes.get_ylabel()
    again = callback.plot("weights", "zero_fraction", include="*bias", ax=axes.figure.add_subplot(1, 2, 2))
    assert again is not axes and len(again.get_lines()[0].get_ydata()) == 1 and again.get_yscale() == "linear"


def test_plot_without_anything_to_draw(trained):
    callback, _ = trained
    with raises_received("kind='gradients'"):
        GradientHistograms().plot()
    with raises_received("include='*gamma'"):
        callback.plot(include="*gamma")
    with raises_received("kind='gradient'"):
        callback.plot("gradient")
    with raises_received("statistic='mean'"):
        callback.plot(statistic="mean")


def test_without_matplotlib(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        trained[0].plot()


def test_a_vanished_norm_has_no_place_on_the_axis():
    model = make_model()
    callback = GradientHistograms()
    callback.measure(model, np.ones((4, 2), "float32"), keras.ops.convert_to_numpy(model(np.ones((4, 2)))))
    assert callback.history["probe"][0]["global_norm"] == 0
    callback.plot("probe").figure.canvas.draw()
