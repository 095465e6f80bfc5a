"""The example on trained networks: what it measures, that it resumes, and that the pages state its results."""

import importlib
import json
import re
import types

import keras
import numpy as np
import pytest
from harness import ROOT, only, to_numpy

PAGE = ROOT / "docs" / "after_training.md"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


@only("torch")
def test_the_program_runs_and_resumes(example, tmp_path, capsys, monkeypatch):
    program, networks = example("after_training"), example("after_training_networks")
    whole = networks.split
    monkeypatch.setattr(networks, "split", lambda *given: networks.Split(*(part[:24] for part in whole(*given))))
    rows = program.rows("digits")
    names = ["one network", "one network, more labels", "snapshots"]
    done = program.main(only=names, out=tmp_path, smoke=True)
    file = tmp_path / "after_training_digits_smoke.json"
    assert [one["row"] for one in done["runs"]] == names
    assert json.loads(file.read_text()) == json.loads(json.dumps(done))
    plain, more, snapshots = done["runs"]
    assert "temperature" not in more  # it was trained on the images to which a temperature would be fitted
    for one in (plain, snapshots):
        assert one["temperature"] > 0
        assert one["calibrated accuracy"] == one["accuracy"]
    assert (snapshots["trainings"], snapshots["passes"]) == (1, 5)
    assert file.with_suffix(".png").stat().st_size > 5_000
    assert "| one network<br>`Adam(0.003)` |" in capsys.readouterr().out
    monkeypatch.setattr(program, "run", None)  # it would fail if something were trained again
    plan = [(one["row"], one["label"], rows[one["row"]][one["label"]]) for one in done["runs"]]
    program.measure(plan, [0], done, file, "digits")
    with pytest.raises(ValueError, match=r"other settings.* Received: settings="):
        program.resume(file, {**done["settings"], "epochs": 99})


def test_views_of_color_images(example):
    """All views of an image of one color are equal, so the merged outputs are those of the network."""
    network = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    network = keras.Sequential([keras.Input((16, 16, 3)), network, keras.layers.Dense(4)])
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.broadcast_to(np.random.default_rng(0).random((3, 1, 1, 3)), (3, 16, 16, 3)).astype("float32")
    found = example("after_training_rows").views(colored=True)
    assert [passes for _, _, passes in found.values()] == [2, 10, 10]
    for make, members, _ in found.values():
        merged = make([network], types.SimpleNamespace(seed=0))
        logits = to_numpy(network(images))
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        outputs = to_numpy(merged(images))
        shares = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)  # logits stay logits
        assert members == 1
        np.testing.assert_allclose(shares, expected, rtol=1e-4)


@pytest.mark.once
def test_images_for_the_temperature_are_neither_trained_on_nor_tested(example):
    networks, rows, digits = (example(name) for name in ("after_training_networks", "after_training_rows", "digits"))
    known, found = digits.load(100, 3), networks.split("digits", 3, None)
    np.testing.assert_array_equal(found.x_train, known.x_train)
    np.testing.assert_array_equal(np.concatenate([found.x_val, found.x_test]), known.x_test)
    np.testing.assert_array_equal(np.concatenate([found.y_val, found.y_test]), known.y_test)
    assert len(found.x_val) == 100
    more = rows.with_held_out(found, 0)
    np.testing.assert_array_equal(more.y_train, np.concatenate([found.y_train, found.y_val]))
    assert len(more.x_train) == 200
    members = [rows.resampled(found, member).x_train for member in range(2)]
    shares = [len(np.unique(one.reshape(100, -1), axis=0)) / 100 for one in members]
    assert all(0.5 < share < 0.75 for share in shares) and (members[0] != members[1]).any()


@pytest.mark.once
def test_the_best_candidate_and_what_is_called_better(example):
    results = example("after_training_results")
    runs = [
        {"row": row, "label": label, "accuracy": accuracy, "nll": nll}
        for row in (results.BASE, "MixUp")
        for label, accuracy, nll in [("a", 0.9, 0.5), ("b", 0.8, 0.2), ("a", 0.9, 0.3), ("b", 0.8, 0.5)]
    ]
    assert results.chosen({"runs": runs}) == {results.BASE: "a", "MixUp": "b"}
    losses = np.array([0.5, 0.3, 0.4])
    assert results.verdict(losses, losses - np.array([0.1, 0.12, 0.15])) == "better"
    assert results.verdict(losses, losses + np.array([0.1, 0.12, 0.15])) == "worse"
    assert results.verdict(losses, losses - np.array([0.1, 0.12, -0.01])) == "no clear effect"
    assert results.verdict(losses, losses - np.array([0.3, 0.01, 0.01])) == "no clear effect"
    assert results.verdict(losses[:1], losses[:1] - 0.1) == "no clear effect"


# The pages. To renew them: `python examples/after_training_results.py`, then the sentences.


@pytest.fixture
def measured(example):
    return example("after_training_results").measured()


@pytest.mark.once
def test_every_row_was_measured_with_three_seeds_and_chosen_on_other_splits(example, measured):
    results, rows, effects = (example(name) for name in ("after_training_results", "after_training_rows", "effects"))
    for kind, (done, tried) in measured.items():
        candidates, best = rows.rows(kind), results.chosen(tried)
        assert list(results.names(done)) == list(candidates)
        for row, label in results.names(done).items():
            runs = [one for one in done["runs"] if one["row"] == row]
            assert [one["seed"] for one in runs] == list(effects.SEEDS)
            assert {one["label"] for one in runs} == {label}
            if len(candidates[row]) > 1:
                assert best[row] == label
                seeds = {(one["label"], one["seed"]) for one in tried["runs"] if one["row"] == row}
                assert seeds == {(each, seed) for each in candidates[row] for seed in effects.SPLITS_TO_CHOOSE}


@pytest.mark.once
def test_the_tables_are_what_the_results_make(example, measured):
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- end -->") == 3 * len(measured)
    assert example("after_training_results").fill(page, measured) == page


ROWS = {
    "plain": "one network", "more": "one network, more labels", "stopped": "early stopping",
    "average": "average of the weights", "snapshots": "snapshots", "soup": "soup of the snapshots",
    "five": "ensemble of five", "bagged": "ensemble of five, bagging", "views": "averaged views",
    "shifted": "augmentation", "shifted_views": "augmentation, averaged views",
    "shifted_five": "augmentation, ensemble of five", "dropout": "dropout", "passes": "dropout, MonteCarlo",
    "mixup": "MixUp", "smoothing": "label smoothing",
}  # fmt: skip
# {row.measure}, or {row.calibrated measure}: mean and standard deviation.
ON_DIGITS = {
    "docs/after_training.md": [
        "Shifts of one pixel during training raise the accuracy from {plain.accuracy} to {shifted.accuracy} %"
        " and lower the negative log-likelihood from {plain.nll} to {shifted.nll}, more than anything that is"
        " done with trained networks.",
        "Another 100 labels in training raise the accuracy to {more.accuracy} %.",
        "One network is overconfident: the fitted temperature is {plain.temperature}, and lowers its negative"
        " log-likelihood from {plain.nll} to {plain.calibrated nll}.",
        "The calibration error of {plain.ece} % becomes {plain.calibrated ece} %: no clear effect with 100 "
        "labels for the temperature.",
        "The same labels are worth more in training: there, they lower the negative log-likelihood to {more.nll}.",
        "Their accuracy is {five.accuracy} %: higher on every seed, but too little for a clear effect.",
        "Their negative log-likelihood is {five.nll}, and {five.calibrated nll} with a temperature, which is "
        "better than one network with a temperature.",
        "Together with shifts, they have the highest accuracy of this page, {shifted_five.accuracy} %.",
        "Bagging does not raise the accuracy: {bagged.accuracy} %.",
        "The accuracy is {mixup.accuracy} % with MixUp and {smoothing.accuracy} % with smoothing.",
        "The calibration error is {mixup.ece} % with MixUp (no clear effect), and {smoothing.ece} % with "
        "smoothing, which is worse.",
        "The fitted temperatures are below 1, {mixup.temperature} and {smoothing.temperature}.",
        "They lower the calibration errors to {mixup.calibrated ece} and {smoothing.calibrated ece} %, and "
        "the negative log-likelihood to {mixup.calibrated nll} and {smoothing.calibrated nll}.",
        "A network with dropout of 0.7 has an accuracy of {dropout.accuracy} % and a negative log-likelihood of "
        "{dropout.nll} with one pass. One with dropout of 0.5 has {passes.accuracy} % and {passes.nll} with 20 "
        "passes.",
        "The negative log-likelihood is {snapshots.nll} for five snapshots, and {soup.nll} for the soup of three.",
        "A temperature for one network does the same: if all have a temperature, the snapshots have "
        "{snapshots.calibrated nll} and the soup {soup.calibrated nll}, no clear difference from one network.",
        "Early stopping also makes the network less overconfident ({stopped.nll}), with {stopped.accuracy} % accuracy.",
        "It has {average.accuracy} % accuracy and a slightly higher negative log-likelihood, {average.nll}.",
        "Views with a little noise have a slightly lower negative log-likelihood, {views.nll}, but a "
        "temperature lowers it more.",
        "After training with shifts, they are slightly worse than one view ({shifted_views.nll}).",
    ],
    "docs/methods/mix_up.md": [
        "On the 100 digits, the calibration error was {plain.ece} % without it and {mixup.ece} % with it: no "
        "clear effect, but the temperature that [`calibrate`](expected_calibration_error.md) fitted was "
        "{mixup.temperature}, and with it, the error was {mixup.calibrated ece} % ([After "
        "training](../after_training.md), three seeds), so fit one",
    ],
    "docs/methods/label_smoothing_crossentropy.md": [
        "On the 100 digits, it raised the calibration error from {plain.ece} to {smoothing.ece} %.",
        "The temperature that [`calibrate`](expected_calibration_error.md) fitted was {smoothing.temperature}.",
        "With it, the error was {smoothing.calibrated ece} % ([After training](../after_training.md), three seeds), so",
    ],
    "docs/methods/ensemble.md": [
        "On 100 labeled digits, an ensemble of five lowered the negative log-likelihood from {plain.nll} to "
        "{five.nll}, and with a fitted temperature from {plain.calibrated nll} to {five.calibrated nll}.",
        "The calibration error fell from {plain.ece} to {five.ece} %.",
        "The accuracy was {plain.accuracy} and {five.accuracy} %: no clear effect.",
        "With bagging, it was {bagged.accuracy} % ([After training](../after_training.md), three seeds).",
    ],
    "docs/methods/weight_average.md": [
        "It does not change calibration much: on 100 labeled digits, the calibration error was {plain.ece} % "
        "without it and {average.ece} % with `WeightAverage('swa', start=25)` and a constant learning rate, "
        "and the negative log-likelihood was {plain.nll} and {average.nll}.",
        "With a fitted temperature, it was {plain.calibrated nll} and {average.calibrated nll}: no clear "
        "effect ([After training](../after_training.md), three seeds).",
    ],
    "docs/methods/monte_carlo.md": [
        "On 100 labeled digits, 20 passes with dropout 0.5 had {passes.accuracy} % accuracy, a negative "
        "log-likelihood of {passes.nll} and a calibration error of {passes.ece} %.",
        "One pass of a network with dropout 0.7, which was the best rate without `MonteCarlo`, had "
        "{dropout.accuracy} %, {dropout.nll} and {dropout.ece} %: no clear difference.",
        "A network without dropout had {plain.accuracy} %, {plain.nll} and {plain.ece} % ([After "
        "training](../after_training.md), three seeds",
    ],
    "docs/methods/test_time_augmentation.md": [
        "On 100 labeled digits, eight views with noise of 0.1 lowered the negative log-likelihood from "
        "{plain.nll} to {views.nll} and the calibration error from {plain.ece} to {views.ece} %.",
        "But a fitted temperature lowered the former to {plain.calibrated nll} without any view.",
        "The accuracy was {plain.accuracy} and {views.accuracy} %: no clear effect ([After "
        "training](../after_training.md), three seeds",
    ],
    "docs/methods/expected_calibration_error.md": [
        "On 100 labeled digits, a temperature that was fitted to 100 others lowered the negative "
        "log-likelihood from {plain.nll} to {plain.calibrated nll}.",
        "The calibration error went from {plain.ece} to {plain.calibrated ece} %: no clear effect ([After "
        "training](../after_training.md), three seeds",
    ],
    "docs/methods/snapshot_ensemble.md": [
        "On 100 labeled digits, five snapshots lowered the negative log-likelihood of one network from "
        "{plain.nll} to {snapshots.nll}, and the calibration error from {plain.ece} to {snapshots.ece} %.",
        "With fitted temperatures, the negative log-likelihoods were {plain.calibrated nll} and "
        "{snapshots.calibrated nll}: no clear effect ([After training](../after_training.md), three seeds).",
    ],
    "docs/methods/soup.md": [
        "A greedy soup of three snapshots of one training lowered the negative log-likelihood on 100 labeled "
        "digits from {plain.nll} to {soup.nll}, and the calibration error from {plain.ece} to {soup.ece} %.",
        "The accuracy was {plain.accuracy} and {soup.accuracy} %: no clear effect.",
        "With fitted temperatures, the negative log-likelihoods were {plain.calibrated nll} and "
        "{soup.calibrated nll}: no clear effect either ([After training](../after_training.md), three seeds).",
    ],
}
# {row.measure@label} is the mean over the splits that choose.
ON_IMAGES = {
    "docs/after_training.md": [
        "It reaches an accuracy of only {plain.accuracy} %.",
        "Another 500 labels in training raise the accuracy from {plain.accuracy} to {more.accuracy} %.",
        "An ensemble of five lowers the negative log-likelihood from {plain.nll} to {five.nll}, and to "
        "{five.calibrated nll} with a temperature, the lowest one of these tables.",
        "Its accuracy is {five.accuracy} %: no clear effect.",
        "With bagging, the accuracy is {bagged.accuracy} % and the negative log-likelihood {bagged.nll}: no clear "
        "effect.",
        "The fitted temperature is {plain.temperature}.",
        "It lowers the negative log-likelihood of one network from {plain.nll} to {plain.calibrated nll}, and its "
        "calibration error from {plain.ece} to {plain.calibrated ece} %.",
        "If all have a temperature, the negative log-likelihood is {snapshots.calibrated nll} for three snapshots and "
        "{stopped.calibrated nll} with early stopping, both worse than that of one network.",
        "It is {soup.calibrated nll} for the soup: no clear difference.",
        "One pass of a network with dropout of 0.5 has an accuracy of {dropout.accuracy} % and a negative "
        "log-likelihood of {dropout.nll}.",
        "The mean of 20 passes has {passes.accuracy} % and {passes.nll}, slightly worse.",
        "The mean of each image and its mirror image lowers the negative log-likelihood from {plain.nll} to "
        "{views.nll}, and with a temperature from {plain.calibrated nll} to {views.calibrated nll}.",
        "The accuracy is {views.accuracy} %: higher on every seed, but too little for a clear effect.",
        "After training with flips and shifts, the gain is small: from {shifted.nll} to {shifted_views.nll}.",
        "Flips and shifts in training lower the accuracy, to {shifted.accuracy} %.",
        "They also lower the negative log-likelihood, to {shifted.nll}, but with a temperature there is no clear "
        "effect: {shifted.calibrated nll}.",
        "With them, an ensemble of five has {shifted_five.accuracy} %: no clear effect.",
        "The fitted temperatures are above 1, {mixup.temperature} and {smoothing.temperature}.",
        "The calibration errors are lower, {mixup.ece} and {smoothing.ece} %, and so are the negative "
        "log-likelihoods, {mixup.nll} and {smoothing.nll}.",
        "A temperature for one network does the same: if all have a temperature, MixUp has {mixup.calibrated nll} and "
        "label smoothing {smoothing.calibrated nll}, no clear difference from one network.",
        "The accuracies are {mixup.accuracy} and {smoothing.accuracy} %: no clear effect.",
        "With a temperature, its negative log-likelihood is {dropout.calibrated nll}: no clear effect.",
        "The average of the weights lowers the negative log-likelihood, to {average.nll}, but a temperature lowers it "
        "more.",
        "With temperatures, there is no clear effect: {average.calibrated nll}.",
        "The accuracy is {average.accuracy} %: no clear effect.",
    ],
    "docs/methods/mix_up.md": [
        "the fitted temperatures were {plain.temperature} without it and {mixup.temperature} with it: less "
        "overconfident, but not underconfident.",
    ],
    "docs/methods/label_smoothing_crossentropy.md": [
        "a smoothing of 0.2 lowered that error from {plain.ece} to {smoothing.ece} %: the fitted temperatures were "
        "{plain.temperature} without it and {smoothing.temperature} with it.",
    ],
    "docs/methods/ensemble.md": [
        "an ensemble of five lowered the negative log-likelihood from {plain.nll} to {five.nll}, and with a fitted "
        "temperature from {plain.calibrated nll} to {five.calibrated nll}.",
        "The accuracy was {plain.accuracy} and {five.accuracy} %: no clear effect.",
    ],
    "docs/methods/weight_average.md": [
        "`WeightAverage('swa', start=5)` with a constant learning rate lowered the negative log-likelihood from "
        "{plain.nll} to {average.nll}.",
        "With a fitted temperature, it was {plain.calibrated nll} and {average.calibrated nll}: no clear effect.",
        "The accuracy was {plain.accuracy} and {average.accuracy} %: no clear effect (",
    ],
    "docs/methods/monte_carlo.md": [
        "20 passes with dropout 0.5 had {passes.accuracy} % accuracy and a negative log-likelihood of {passes.nll}, "
        "slightly worse than one pass, which had {dropout.accuracy} % and {dropout.nll} (",
    ],
    "docs/methods/test_time_augmentation.md": [
        "`flips()` lowered the negative log-likelihood from {plain.nll} to {views.nll}, and with a fitted temperature "
        "from {plain.calibrated nll} to {views.calibrated nll}.",
        "The accuracy was {plain.accuracy} and {views.accuracy} %: higher on every seed, but too little for a clear "
        "effect.",
        "Ten crops of the image enlarged to 18 or 20 pixels were worse than `flips()` on the two splits for choosing: "
        "{views.nll@multi_scale([18], ten_crop(16))} and {views.nll@multi_scale([20], ten_crop(16))} instead of "
        "{views.nll@flips()}.",
        "After training with flips and shifts, `flips()` lowered the negative log-likelihood from {shifted.nll} to "
        "{shifted_views.nll} (",
    ],
    "docs/methods/expected_calibration_error.md": [
        "a temperature that was fitted to 500 others lowered the negative log-likelihood from {plain.nll} to "
        "{plain.calibrated nll}, and the calibration error from {plain.ece} to {plain.calibrated ece} % (",
    ],
    "docs/methods/snapshot_ensemble.md": [
        "three snapshots lowered the negative log-likelihood from {plain.nll} to {snapshots.nll}, and the calibration "
        "error from {plain.ece} to {snapshots.ece} %.",
        "With fitted temperatures, the negative log-likelihood of the snapshots was higher: {snapshots.calibrated nll} "
        "instead of {plain.calibrated nll}.",
        "The accuracy was {plain.accuracy} and {snapshots.accuracy} %: no clear effect (",
    ],
    "docs/methods/soup.md": [
        "a greedy soup of three snapshots lowered the negative log-likelihood from {plain.nll} to {soup.nll}, and the "
        "calibration error from {plain.ece} to {soup.ece} %.",
        "With fitted temperatures, the negative log-likelihoods were {plain.calibrated nll} and {soup.calibrated nll}, "
        "and the accuracy was {plain.accuracy} and {soup.accuracy} %: no clear effect (",
    ],
}
STATED = {**{("digits", page): said for page, said in ON_DIGITS.items()},
          **{("images", page): said for page, said in ON_IMAGES.items()}}  # fmt: skip
IMAGES_OF_CARDS = "On 1000 labeled images of CIFAR-10 (JPEG copies, reduced to 16x16 pixels), "


def number(results, done, tried, name):
    name, _, label = name.partition("@")
    row, measure = name.split(".")
    factor, digits = results.MEASURES.get(measure.split()[-1], (1, 2))
    if label:
        found = [one[measure] for one in tried["runs"] if (one["row"], one["label"]) == (ROWS[row], label)]
        assert len(found) == 2
        return f"{factor * np.mean(found):.{digits}f}"
    found = results.values(done, ROWS[row], measure)
    assert len(found) == 3
    return results.spread(found, factor, digits)


@pytest.mark.once
@pytest.mark.parametrize(("kind", "page"), STATED)
def test_sentences_state_the_results(example, measured, kind, page):
    results = example("after_training_results")
    text = " ".join((ROOT / page).read_text(encoding="utf-8").replace("**", "").split())
    for sentence in STATED[kind, page]:
        filled = re.sub(r"\{([^}]+)\}", lambda found: number(results, *measured[kind], found[1]), sentence)
        assert filled in text
    if kind == "images":
        assert "JPEG copies of CIFAR-10" in text if "methods" not in page else IMAGES_OF_CARDS in text


@pytest.fixture
def verdicts(example, measured):
    """verdicts(kind, measure, rows, base): what the results say about each of the rows, compared with `base`."""
    results = example("after_training_results")

    def of(kind, measure, rows, base="plain"):
        return [results.against(measured[kind][0], ROWS[row], measure, ROWS[base]) for row in rows.split()]

    return of


UNCLEAR, BETTER, WORSE = "no clear effect", "better", "worse"


@pytest.mark.once
def test_what_is_said_of_digits_without_numbers(example, measured, verdicts):
    """What is called better or worse, and what has no clear effect."""
    results, done = example("after_training_results"), measured["digits"][0]
    same = "stopped average snapshots soup five bagged views"
    assert set(verdicts("digits", "accuracy", same)) == {UNCLEAR}
    assert verdicts("digits", "nll", same) == [BETTER, WORSE, *[BETTER] * 5]
    assert verdicts("digits", "ece", "average snapshots soup five views") == [WORSE, *[BETTER] * 4]
    assert set(verdicts("digits", "accuracy", "more shifted shifted_five dropout passes mixup smoothing")) == {BETTER}
    assert verdicts("digits", "ece", "mixup smoothing") == [UNCLEAR, WORSE]
    assert verdicts("digits", "calibrated nll", "five average snapshots soup bagged") == [BETTER, *[UNCLEAR] * 4]
    assert verdicts("digits", "nll", "shifted_views", "shifted") == [WORSE]
    for measure in ("nll", "accuracy"):
        assert verdicts("digits", measure, "passes", "dropout") == [UNCLEAR]
    accuracies = {row: results.values(done, name, "accuracy").mean() for row, name in ROWS.items()}
    assert max(accuracies, key=accuracies.get) == "shifted_five"
    before, after = (results.values(done, ROWS["plain"], key) for key in ("ece", "calibrated ece"))
    assert results.verdict(before, after) == UNCLEAR
    assert (results.values(done, ROWS["five"], "accuracy") > results.values(done, ROWS["plain"], "accuracy")).all()
    assert all((results.values(done, ROWS[row], "temperature") < 1).all() for row in ("mixup", "smoothing"))


@pytest.mark.once
def test_what_is_said_of_color_images_without_numbers(example, measured, verdicts):
    results, (done, tried) = example("after_training_results"), measured["images"]
    settings = {name: done["settings"][name] for name in ("labeled", "held_out", "tested", "epochs")}
    assert settings == {"labeled": 1000, "held_out": 500, "tested": 1500, "epochs": 20}
    same = "stopped average snapshots soup five bagged views shifted_five dropout passes mixup smoothing"
    assert verdicts("images", "accuracy", f"more shifted {same}") == [BETTER, WORSE, *[UNCLEAR] * 12]
    better = "more stopped average snapshots soup five views shifted dropout mixup smoothing"
    assert set(verdicts("images", "nll", better)) == {BETTER} and verdicts("images", "nll", "bagged") == [UNCLEAR]
    assert set(verdicts("images", "ece", "snapshots soup mixup smoothing")) == {BETTER}
    assert set(verdicts("images", "calibrated nll", "five views")) == {BETTER}
    assert set(verdicts("images", "calibrated nll", "snapshots stopped")) == {WORSE}
    assert set(verdicts("images", "calibrated nll", "soup shifted mixup smoothing dropout average")) == {UNCLEAR}
    assert verdicts("images", "nll", "passes", "dropout") == [WORSE]
    assert verdicts("images", "nll", "shifted_views", "shifted") == [BETTER]

    def found(row, measure):
        return results.values(done, ROWS[row], measure)

    for measure in ("nll", "ece"):
        assert results.verdict(found("plain", measure), found("plain", f"calibrated {measure}")) == BETTER
    assert found("average", "nll").mean() > found("plain", "calibrated nll").mean()
    assert (found("views", "accuracy") > found("plain", "accuracy")).all()
    assert all((found(row, "temperature") > 1).all() for row in ("mixup", "smoothing"))
    lowest = {row: found(row, key).mean() for row in ROWS for key in ("nll", "calibrated nll") if len(found(row, key))}
    assert min(lowest, key=lowest.get) == "five"
    for row in ("views", "shifted_views"):  # on the splits that choose, where the measured row was also the best one
        tried_views = {one["label"] for one in tried["runs"] if one["row"] == ROWS[row]}
        assert len(tried_views) == 3 and results.chosen(tried)[ROWS[row]] == "flips()"
