"""The example on wrong labels: what it measures, that it resumes, and that the pages state its results."""

import importlib
import json
import re

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT, only

PAGE = ROOT / "docs" / "wrong_labels.md"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("wrong_labels")


def features(folder):
    """Features that are easy to separate."""
    rng = np.random.default_rng(0)
    y = np.arange(150) % 10
    x = (np.eye(10)[y] + rng.normal(0, 0.05, (150, 10))).astype("float32")
    np.savez(folder / "features.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    return folder / "features.npz"


@only("torch")
def test_the_program_runs_and_resumes(example, tmp_path, capsys, monkeypatch):
    path = features(tmp_path)
    done = example.main(path, smoke=True, out=tmp_path)
    file = tmp_path / "wrong_labels_features_smoke.json"
    assert [one["method"] for one in done["runs"]] == ["plain", "combination"]
    assert json.loads(file.read_text()) == json.loads(json.dumps(done))
    assert file.with_suffix(".png").stat().st_size > 10_000
    assert "| plain, SmoothedEarlyStopping |" in capsys.readouterr().out
    monkeypatch.setattr(example, "run", None)  # it would fail if something were trained again
    plan = [(one["method"], one["strength"]) for one in done["runs"]]
    again = example.train_all(path, done["settings"], [(0, ("symmetric", 40))], plan, file)
    assert again == json.loads(json.dumps(done))
    with pytest.raises(ValueError, match=r"other settings.* Received: settings="):
        example.train_all(path, {**done["settings"], "epochs": 99}, [], plan, file)


class Known(keras.Model):
    """Predicts the class that the largest of the ten pixels shows."""

    def call(self, x):
        return x


def test_remembered_and_corrected_are_counted_on_wrong_labels_only(example):
    shown = np.array([0, 1, 2, 3, 4, 5])
    given, correct = np.array([0, 1, 2, 9, 9, 9]), np.array([0, 8, 8, 3, 4, 9])
    x = np.eye(10, dtype="float32")[shown]
    curves = example.Curves(Known(), example.Split(x, given, correct, x, given, x, np.array([0, 1, 0, 0, 0, 0])))
    curves.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0, "val_accuracy": 0.5})
    # images 1 to 4 have wrong labels: 1 and 2 are predicted as given, 3 and 4 correctly
    assert curves.curves["remembered"] == [0.5] and curves.curves["corrected"] == [0.5]
    assert curves.curves["test"] == [round(2 / 6, 4)]


@pytest.mark.once
def test_splits_keep_wrong_labels_apart(example):
    """The labels for validation are as wrong as those for training, and those of the test are correct."""
    data, clean = (example.split(None, 500, percent, "pairs", 3) for percent in (40, 0))
    assert len(data.x) == 400 and len(data.x_val) == 100 and len(data.x_test) == 600
    for given, correct, least, most in (
        (data.given, data.correct, 130, 190),
        (data.given_val, clean.given_val, 25, 55),
    ):
        wrong = given != correct
        assert least < wrong.sum() < most
        np.testing.assert_array_equal(given[wrong], (correct[wrong] + 1) % 10)
    np.testing.assert_array_equal(data.y_test, clean.y_test)


def test_a_watching_callback_decides_as_if_it_stopped_the_training(example):
    """The epoch, the trained epochs and the weights are those of a training that the callback really stops."""
    x = np.linspace(-1, 1, 8, dtype="float32")[:, None]

    def train(*callbacks):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=BACKEND == "tensorflow")
        kept = []
        record = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(model.get_weights()[0].item()))
        # the labels of the validation contradict those of the training, so its loss rises after some epochs
        history = model.fit(x, 3 * x, 8, 12, 0, [record, *callbacks], validation_data=(x, 0.5 * x), shuffle=False)
        return model.get_weights()[0].item(), kept, len(history.history["loss"])

    def make():
        return example.SmoothedEarlyStopping(patience=2)

    watch = example.Watch(make())
    _, kept, trained = train(watch)
    decision = watch.decision(trained)
    restored, _, stopped = train(make())
    assert trained == 12 and decision["trained"] == stopped < 12
    assert kept[decision["kept"]] == pytest.approx(restored, rel=1e-5)


# The pages. To renew them: `python examples/wrong_labels_results.py`, then the sentences.

NAMES = {
    "plain": "plain", "slow": "plain, another learning rate",
    "smoothing": "LabelSmoothingCrossentropy", "noise": "LabelNoise", "mixup": "MixUp",
    "combination": "combination", "stopped": "plain, SmoothedEarlyStopping", "keras": "plain, EarlyStopping of Keras",
    "monitor": "plain, SmoothedEarlyStopping on accuracy", "short": "combination, SmoothedEarlyStopping",
    "dropout": "Dropout",
}  # fmt: skip
# The conditions are in `CASES`, `best` is the best epoch, and `kept` the share of remembered labels.
CASES = {
    "0": ("symmetric", 0), "some": ("symmetric", 20), "any": ("symmetric", 40), "few": ("pairs", 20),
    "next": ("pairs", 40),
}  # fmt: skip
STATED = {
    "docs/wrong_labels.md": [
        "remembers {plain.any.kept} % of the wrong labels.",
        "falls from {plain.any.best} % in the best epoch to {plain.any} % at the end.",
        "ends at {combination.any} % and remembers {combination.any.kept} %.",
        "keeps a network with {stopped.any} % accuracy that remembers {stopped.any.kept} %.",
        "Keras' own callback reaches {keras.any} %",
        "MixUp has {mixup.any} % accuracy and remembers {mixup.any.kept} %, LabelNoise has {noise.any} % and remembers "
        "{noise.any.kept} %.",
        "({plain.0.spread} % plain, {combination.0.spread} % with it)",
        "has {slow.any} % accuracy after the 60 epochs and remembers {slow.any.kept} %. It reached {slow.any.best} %",
        "still ends at {combination.few.spread} % and remembers {combination.few.kept} %",
        "the plain network ends at {plain.few.spread} %",
        "ends at {combination.next.spread} % and remembers {combination.next.kept} %",
        "ends at {plain.next.spread} %, and early stopping keeps {stopped.next.spread} %",
        "ends at {smoothing.any} %, which is {smoothing.any.gain} points more than the plain network, but remembers "
        "{smoothing.any.kept} %",
        "is the true class of {combination.any.corrected} % of the images with wrong labels, and if each wrong label "
        "is the next class, of {combination.next.corrected} %.",
        "labels are correct ({smoothing.0} %)",
        "with {short.any} % accuracy instead of {combination.any} %",
        "early stopping keeps {monitor.any} %",
    ],
    "docs/methods/label_noise.md": [
        "from {plain.any.spread} to {noise.any.spread} %. The network remembered {noise.any.kept} instead of "
        "{plain.any.kept} %",
        "{plain.0.spread} % plain, {noise.0.spread} % with",
    ],
    "docs/methods/label_smoothing_crossentropy.md": [
        "from {plain.any.spread} to {smoothing.any.spread} %, but the network remembered {smoothing.any.kept} %",
        "from {plain.0.spread} to {smoothing.0.spread} %",
    ],
    "docs/methods/smoothed_early_stopping.md": [
        "with {stopped.any.spread} % accuracy that remembered {stopped.any.kept} % of the wrong labels",
        "the last epoch had {plain.any.spread} % and remembered {plain.any.kept} %",
    ],
}


ON_FEATURES = [
    "is best after its first epoch, and ends at {plain.any.spread} %",
    "with {stopped.any.spread} % accuracy, and remembers {stopped.any.kept} %",
    "ends at {dropout.any.spread} % and remembers {dropout.any.kept} %",
    "They end at {mixup.any.spread}, {smoothing.any.spread} and {noise.any.spread} %.",
    "ends at {plain.some.spread} %, early stopping keeps {stopped.some.spread} %, and Dropout ends at "
    "{dropout.some.spread} %. Both are better on every seed.",
    "end lower on every seed, at {mixup.some.spread}, {smoothing.some.spread} and {noise.some.spread} %.",
    "it ends at {dropout.few.spread} %, and the plain network at {plain.few.spread} %. Early stopping keeps "
    "{stopped.few.spread} %: no clear effect.",
]


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("wrong_labels_results")


def number(results, done, name):
    """The number that a name in `STATED` stands for, as text."""
    row, condition, *what = name.split(".")
    case = CASES[condition]
    assert len(results.runs_of(done, NAMES[row], case)) == 3
    if what == ["spread"]:
        return results.spread(results.values(done, NAMES[row], case))
    if what == ["best"]:
        return f"{100 * np.mean([max(one['test']) for one in results.runs_of(done, NAMES[row], case)]):.1f}"
    if what == ["gain"]:
        return f"{(results.values(done, NAMES[row], case) - results.values(done, 'plain', case)).mean():.1f}"
    curve = {"kept": "remembered", "corrected": "corrected"}.get("".join(what), "test")
    return f"{results.values(done, NAMES[row], case, curve).mean():.1f}"


@pytest.mark.once
def test_the_tables_are_what_the_results_make(results):
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- end -->") == 7
    assert results.fill(page, *results.all_results()) == page


@pytest.mark.once
@pytest.mark.parametrize("page", STATED)
def test_sentences_state_the_results(results, page):
    done = results.results("digits")
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for sentence in STATED[page]:
        filled = re.sub(r"\{([^}]+)\}", lambda found: number(results, done, found[1]), sentence)
        assert filled in text


@pytest.mark.once
def test_sentences_state_the_results_on_features(results):
    done = results.results("features")
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for sentence in ON_FEATURES:
        assert re.sub(r"\{([^}]+)\}", lambda found: number(results, done, found[1]), sentence) in text
    stops = [one["stops"] for one in done["runs"] if one["method"] == "plain" and one["wrong"] == 40]
    names = ("SmoothedEarlyStopping", "EarlyStopping of Keras")
    assert {one[name]["kept"] for one in stops[:3] for name in names} == {0}
    higher, lower = better_and_worse(results, done, "some")
    assert higher == {"stopped", "dropout"} and lower == {"mixup", "smoothing", "noise"}
    assert better_and_worse(results, done, "few")[0] == {"dropout"}


def better_and_worse(results, done, condition):
    """The rows that are above the plain network on every seed, and those that are below it."""
    plain = results.values(done, "plain", CASES[condition])
    rows = ("smoothing", "noise", "mixup", "dropout", "stopped")
    gains = {row: results.values(done, NAMES[row], CASES[condition]) - plain for row in rows}
    return {row for row in rows if min(gains[row]) > 0}, {row for row in rows if max(gains[row]) < 0}


@pytest.mark.once
def test_what_the_page_says_without_numbers(results):
    """Which callback never stops, and what is better than the best epochs of the others."""
    done = results.results("digits")
    stops = [one["stops"] for one in done["runs"] if one["method"] == "plain"]
    for name in ("DivergenceStop", "DivergenceStop, val_loss"):
        assert {one[name]["trained"] for one in stops} == {done["settings"]["epochs"]}
    stopped = results.runs_of(done, "plain", CASES["any"])
    assert [one["stops"]["SmoothedEarlyStopping"]["kept"] + 1 for one in stopped] == [12, 12, 12]
    assert [int(np.argmax(one["test"])) + 1 for one in stopped] == [12, 13, 9]
    combination = float(number(results, done, "combination.any"))
    assert all(
        float(number(results, done, f"{row}.any.best")) < combination
        for row in ("plain", "slow", "smoothing", "noise", "mixup")
    )


@pytest.mark.once
def test_the_strengths_are_the_best_of_the_choice(example, results):
    for name in ("digits", "features"):
        assert_chosen(results.results(f"{name}_choice")["runs"], example.STRENGTHS[name])


def assert_chosen(runs, strengths):
    for method, strength in strengths.items():
        last = {one["strength"]: one["test"][-1] for one in runs if one["method"] == method}
        assert strength == max(last, key=last.get), method
