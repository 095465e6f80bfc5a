"""Measured numbers on the pages are those in docs/results. Those of a program are also compared in its own tests."""

import importlib
import json
import re

import numpy as np
import pytest
from harness import ROOT

pytestmark = pytest.mark.once

RESULTS = ROOT / "docs" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(page):
    """A page in one line."""
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def results(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def texts_of(page, pattern):
    """The numbers, as they are written, of the one sentence of the form `pattern`, where `#` stands for a number."""
    form = re.escape(pattern).replace(r"\#", r"([+-]?\d+(?:\.\d+)?)").replace(r"\ ", " ")
    found = re.findall(form, text_of(page))
    assert len(found) == 1, f"{page}: {pattern}"
    return list(np.ravel(found[0]))


def numbers_in(page, pattern):
    return [float(text) for text in texts_of(page, pattern)]


# Speed.


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    return importlib.import_module("report")


def test_the_pages_on_performance_are_what_the_results_make(report):
    """To renew them: `python examples/benchmarks/report.py`."""
    measured = results("performance")
    filled = 0
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")
        assert report.fill(text, measured) == text, page.name
        filled += text.count("<!-- end -->")
    assert filled > 8


def test_the_verdicts_on_warps_and_policies_follow_from_the_rows(report):
    geometry = importlib.import_module("geometry")
    for entry in results("performance")["layers"].values():
        stored = {target["target"]: target for target in entry["targets"]}
        for made in geometry.geometry_targets(geometry.cells_of(entry["rows"])):
            known = stored[made["target"]]
            assert made["cells"] == known["cells"] > 0
            assert [name for name, *_ in made["missed"]] == [name for name, *_ in known["missed"]]


def test_the_page_on_costs_is_what_the_results_make(report):
    """To renew it: `bench_costs.py` on each backend, then `report.py docs/results/costs.json --pages docs/costs.md`."""
    measured, page = results("costs"), (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    assert report.fill(page, measured) == page
    (*_, last) = sorted(measured["costs"]["jax"]["rows"], key=lambda row: row["ms"])
    assert f"| {last['layer']} |" in page
    assert not any(entry["quick"] for entry in measured["costs"].values())


def test_speed_in_the_readme(report):
    measured = results("performance")
    table = report.speed_up(measured["layers"])
    rows = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in table.splitlines()[2:])}
    means = [float(rows[backend][2]) for backend in ("TensorFlow", "JAX", "PyTorch")]
    stated = "are # times as fast as Keras' own layers on TensorFlow, # times on JAX and # times on PyTorch."
    assert numbers_in("README.md", stated) == means
    cells, least, most = int(rows["all"][0]), float(rows["all"][3]), float(rows["all"][4])
    assert numbers_in("README.md", "geometric means over the # combinations") == [cells]
    assert numbers_in("README.md", "worst is # and the best #.") == [least, round(most)]
    pixels = report.speed_up(measured["layers"], pixels=True)
    rows = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in pixels.splitlines()[2:])}
    stated = "Geometry, colors, filters and RandAugment are # times as fast on TensorFlow, # on JAX and # on PyTorch"
    assert numbers_in("README.md", stated) == [float(rows[name][2]) for name in ("TensorFlow", "JAX", "PyTorch")]
    cells, least = int(rows["all"][0]), float(rows["all"][3])
    assert numbers_in("README.md", "on PyTorch (# combinations, the worst #)") == [cells, least]
    rest = [row for entry in measured["training"].values() for row in entry["rows"]]
    (limit,) = numbers_in("README.md", "no measurable cost (less than # %)")
    assert max(abs(row[key] - 1) for row in rest for key in ("ratio", "processor")) < limit / 100
    losses = [row for entry in measured["losses"].values() for row in entry["rows"] if row["loss"] == "keras_reg"]
    shares = [row["to_plain"] for row in losses]
    found = numbers_in("README.md", "class ids takes # to # times as long as the backend's plain cross-entropy")
    assert found == [round(min(shares), 1), round(max(shares), 1)]


def test_the_step_on_a_gpu():
    (row,) = results("performance")["gpu"]["torch"]["rows"][0]["training"]
    change = round(100 * (row["ratio"] - 1), 1)
    assert numbers_in("README.md", "it changed the step of a ResNet-50 by # %") == [change]
    assert numbers_in("docs/performance.md", "`mixed_bfloat16`, # ms) by # %.") == [round(row["step_ms"]), change]


@pytest.mark.parametrize("page", ["README.md", "docs/methods/transfer_learner.md"])
def test_features_that_are_computed_once(page):
    rows = [entry["rows"][0] for entry in results("performance")["feature_cache"].values()]
    images, size = *numbers_in(page, "(# images of "), rows[0]["size"]
    assert {(row["images"], row["size"]) for row in rows} == {(images, size)}
    (faster,) = numbers_in(page, "MobileNetV2 # times faster")
    assert faster == int(min(row["ratio"] for row in rows))


# What is done with a trained network. To renew it: `method_pictures.py NAMES --json docs/results/method_pictures.json`.

THAT_OF_PICTURES = [
    ("monte_carlo", "digits was # ± # without dropout, # ± # for the mean of 5 passes and # ± # for the mean of 20:",
     lambda found: [found["plain"], found["passes"][1], found["passes"][3]]),
    ("monte_carlo", "information was # ± # for digits and # ± # for the same", lambda found: found["information"]),
    ("expected_calibration_error", "error on the second half went from # ± # to # ± # with 10 bins, and the negative "
     "log-likelihood went from # ± # to # ± #.",
     lambda found: [found[name][column] for column in (0, 1) for name in ("trained", "calibrated")]),
    ("expected_calibration_error", "The temperature was # ± #.", lambda found: [found["temperature"]]),
    ("expected_calibration_error", "accuracy stayed at # ± # %", lambda found: percent([found["trained"][2]])),
    ("snapshot_ensemble", "digits was # ± # with a constant learning rate, # ± # for the last member and # ± # for "
     "all five together, which is lower by # ± #.",
     lambda found: [found["constant"][0], found["members"][0][0], found["members"][4][0], np.abs(found["change"])]),
    ("snapshot_ensemble", "The accuracies were # ± # %, # ± # % and # ± # %",
     lambda found: percent([found["constant"][1], found["members"][0][1], found["members"][4][1]])),
    ("snapshot_ensemble", "early stopping tries to find, was # ± # with the constant rate",
     lambda found: [found["lowest"]]),
    ("soup", "member was # ± # and that of the greedy soup # ± #. The difference was # ± #: no clear effect here. The "
     "uniform soup had # ± #, and the ensemble of all four had # ± #,",
     lambda found: [found[name] for name in ("best", "greedy", "greedy_minus_best", "uniform", "ensemble")]),
    ("test_time_augmentation", "# ± # for one shifted view, # ± # for the mean of 32 and # ± # for the image itself",
     lambda found: [found["views"][0], found["views"][-1], found["plain"]]),
    ("test_time_augmentation", "minus the image itself: # ± #)", lambda found: [found["change"]]),
    ("ensemble", "had a negative log-likelihood of # ± #, two together # ± # and all eight # ± #. The accuracies "
     "were # ± # %, # ± # % and # ± # %.", lambda found: of_counts(found["members"])),
    ("ensemble", "With bootstrap samples, it was # ± #, # ± # and # ± #, and # ± # %, # ± # % and # ± # %.",
     lambda found: of_counts(found["bags"])),
]  # fmt: skip


def percent(pairs):
    return [[100 * number for number in pair] for pair in pairs]


def of_counts(rows):
    """Losses and accuracies of one, two and eight members."""
    return [rows[place][0] for place in (0, 1, 3)] + percent([rows[place][1] for place in (0, 1, 3)])


@pytest.mark.parametrize(("name", "sentence", "pairs"), THAT_OF_PICTURES)
def test_what_is_measured_with_a_picture(name, sentence, pairs):
    expected = np.ravel(pairs(results("method_pictures")[name]))
    for text, number in zip(texts_of(f"docs/methods/{name}.md", sentence), expected, strict=True):
        assert text == f"{number:.{len(text.partition('.')[2])}f}"


# The comparison of libraries. To renew it: `compare_libraries.py --json docs/results/comparison.json` on each backend.

LIBRARIES = ("keras_reg", "keras", "keras_cv", "timm", "torchvision")


def compared(library, question):
    """What a library answers on each backend on which it was measured."""
    return [rows[library][question] for rows in results("comparison").values() if library in rows]


def span(values, digits):
    """`least to most`, or the one value that both are when rounded."""
    rounded = sorted({f"{value:.{digits}f}" for value in values}, key=float)
    return " to ".join([rounded[0], rounded[-1]][: len(rounded)])


def test_the_comparison_in_the_readme():
    table = re.findall(r"^\| .* \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    table = [row.strip("| ").split(" | ") for row in table]
    head = next(row for row in table if "torchvision" in row[-1])
    versions = {name: compared(name, "version")[0] for name in LIBRARIES[1:]}
    for cell, version in zip(head[-4:], versions.values(), strict=True):
        assert version.startswith(cell.split()[1]), cell
    errors, erased, dropped = (
        next(row for row in table if name in row[0]) for name in ("CutMix", "Erasing", "DropBlock")
    )
    for place, library in enumerate(LIBRARIES, 1):
        answers = compared(library, "CutMix: label error")
        assert errors[place] == span([float(answer.split()[0]) for answer in answers], 3), library
        answers = [float(answer) for answer in compared(library, "erased at 0.5") if answer]
        assert erased[place] == (span(answers, 2) if answers else "no probability"), library
        answers = [re.findall(r": ([\d.]+)", answer) for answer in compared(library, "dropped at 0.1") if answer]
        shares = [span(map(float, column), 2) for column in zip(*answers, strict=True)]
        assert dropped[place] == (", ".join(shares) or "not available"), library


def test_the_comparison_on_the_page_for_other_libraries():
    def error(library, which):
        return max(float(answer.split()[2 * which]) for answer in compared(library, "CutMix: label error"))

    page = "docs/coming_from.md"
    found = numbers_in(
        page, "label weights have an error of # to # on average and # at most. In keras_reg, the error is #"
    )
    keras = [float(answer.split()[0]) for answer in compared("keras", "CutMix: label error")]
    assert found == [min(keras), max(keras), round(error("keras", 1), 2), error("keras_reg", 1)]
    found = numbers_in(page, "Its error is # on average and # at most (measured)")
    assert found == [round(error("keras_cv", 0), 2), round(error("keras_cv", 1), 2)]
    maps = {name: re.findall(r": ([\d.]+)", compared(name, "dropped at 0.1")[0]) for name in ("timm", "keras_cv")}
    found = numbers_in(page, "timm drops # of a 14 x 14 map and # of an 8 x 8 map")
    assert found == [round(float(share), 2) for share in maps["timm"][:2]]
    assert numbers_in(page, "On a 20 x 12 map, it drops # at a rate") == [round(float(maps["keras_cv"][2]), 2)]


def test_the_table_of_geometry_and_policies():
    """To renew it: `compare_policies.py --json docs/results/comparison_policies.json` on each backend."""
    page = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    _, _, *rows = re.findall(
        r"^\|(.*)\|$", page.split("### Geometry and policies, measured")[1].split("\n## ")[0], re.M
    )
    measured = results("comparison_policies")
    questions = [key for key in measured["torch"]["keras_reg"] if key != "version"]
    for row, question in zip(rows, questions, strict=True):
        cells = dict(zip(("keras_reg", "keras", "torchvision"), row.split("|")[1:], strict=True))
        for library, cell in cells.items():
            answers = {backend: rows[library][question] for backend, rows in measured.items() if library in rows}
            assert cell.strip() == _cell(question, answers), question


def _cell(question, answers):
    """The cell for {backend: answer}."""
    if not re.match(r"[\d.]+$", next(iter(answers.values()))):
        (answer,) = set(answers.values())
        return answer
    if question.startswith("invert"):
        return span(map(float, answers.values()), 0)
    shares = {backend: 100 * float(answer) for backend, answer in answers.items()}
    if question.startswith("rotated") and len(set(shares.values())) > 1:
        names = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
        return ", ".join(f"{shares[key]:.3g} % ({name})" for key, name in names.items())
    return span(shares.values(), 1).replace(".0", "") + " %"


# Accuracies.


POLICIES = {
    "auto_augment": "AutoAugment for CIFAR-10",
    "rand_augment": "RandAugment(2, 9)",
    "trivial_augment_wide": "TrivialAugmentWide",
}


@pytest.fixture
def rungs(monkeypatch):
    """(training accuracy, validation accuracy, differences from the rung below, name) of each rung of the ladder."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    ladder = importlib.import_module("cifar10_results")
    rows = ladder.summary(results("ladder_small"))
    return [(row["train"].mean(), row["validation"].mean(), ladder.step(row, rows), row["rung"].name) for row in rows]


def test_steps_of_the_ladder_on_the_cards(rungs):
    """The difference that a rung made, and the gap before and after it."""
    stated = re.compile(r"accuracy by ([+-][\d.]+) ± ([\d.]+) points, and the gap from ([\d.]+) to ([\d.]+)")
    bases = {name: rung.base for name, rung in importlib.import_module("cifar10_rungs").RUNGS.items()}
    by_name = {name: row for *row, name in rungs}
    steps = {}
    for name, (train, validation, step) in by_name.items():
        if step is not None and len(step):
            before = by_name[bases[name]]
            gaps = f"{before[0] - before[1]:.1f}", f"{train - validation:.1f}"
            steps[name] = f"{step.mean():+.1f}", f"{step.std(ddof=1):.1f}", *gaps
    found = {(page.stem, numbers) for page in PAGES for numbers in stated.findall(text_of(page))}
    assert {(card, numbers) for card, numbers in found if numbers not in steps.values()} == set()
    for card, name in POLICIES.items():
        assert (card, steps[f"aside: {name} after flip and crop"]) in found


def test_policies_beside_mixing(rungs):
    by_name = {name.removesuffix(" after flip and crop").removeprefix("aside: "): row for *row, name in rungs}
    flips = by_name["+ flip, crop with padding 2"]
    rows = [by_name[name] for name in (POLICIES["auto_augment"], "MixUp or CutMix", *list(POLICIES.values())[1:])]
    changes = [f(row[2]) for row in rows for f in (np.mean, lambda step: step.std(ddof=1))]
    stated = (
        "AutoAugment changed validation accuracy by # ± # points, MixUp or CutMix by # ± #, RandAugment by # ± # "
        "and TrivialAugmentWide by # ± #"
    )
    for page in ("docs/ladder.md", "docs/which.md"):
        assert numbers_in(page, stated) == [round(value, 1) for value in changes]
    trained = [round(row[0], 1) for row in (flips, *rows)]
    stated = "Training accuracy falls from # % to #, #, # and # %, in this order."
    assert numbers_in("docs/ladder.md", stated) == trained
    # A policy that helps with every seed belongs into the first recipe of which.md.
    assert [len({*np.sign(row[2])}) for row in rows] == [2, 2, 2, 1] and changes[-2] < 0
    for card, row in (("rand_augment", rows[2]), ("auto_augment", rows[0])):
        stated = "no clear effect: the differences for the seeds are #, # and #."
        assert numbers_in(f"docs/methods/{card}.md", stated) == [round(value, 1) for value in row[2]]
    found = numbers_in("docs/methods/rand_augment.md", "Training accuracy falls from # to # %")
    assert found == [trained[0], trained[3]]
    gaps = [row[0] - row[1] for row in (flips, rows[0], *rows[2:])]
    assert all(0.4 * gaps[0] < gap < 0.6 * gaps[0] for gap in gaps[1:])  # "halve the gap"


def test_policies_at_the_top(rungs):
    """Compared with the top rung that was run again with them."""
    ladder = importlib.import_module("cifar10_results")
    (top,) = ladder.summary(results("ladder_small_top_again"))
    rows = {row["rung"].name: row for row in ladder.summary(results("ladder_small"))}
    before = rows["+ average of the weights"]
    rand, wide = (rows[f"aside: {POLICIES[card]} for the rotation at the top"] for card in list(POLICIES)[1:])
    assert list(top["seed"]) == list(rand["seed"]) == list(wide["seed"]) == [0, 1, 2]

    def mean_and_spread(values):
        return [round(f, 1) for f in (values.mean(), values.std(ddof=1))]

    found = numbers_in("docs/ladder.md", "and reached # ± # % instead of # ± # % (`docs/results/ladder_small_top_again")
    assert found == [*mean_and_spread(top["validation"]), *mean_and_spread(before["validation"])]
    gained, lost = (row["validation"] - top["validation"] for row in (rand, wide))
    seeds = [round(value, 1) for value in gained]
    stated = "RandAugment changes validation accuracy by # ± # points (#, # and #), to # %."
    found = numbers_in("docs/ladder.md", stated)
    assert found == [*mean_and_spread(gained), *seeds, round(rand["validation"].mean(), 1)]
    assert min(gained) < 0 < max(gained)  # "no clear effect"
    found = numbers_in("docs/which.md", "at the top of the ladder, it changed it by # ± # points with 40 epochs.")
    assert found == mean_and_spread(gained)
    assert numbers_in("docs/methods/rand_augment.md", "with 40 epochs, the differences are #, # and #.") == seeds
    changed = mean_and_spread(lost)
    assert numbers_in("docs/ladder.md", "TrivialAugmentWide changes it by # ± # points and loses with") == changed
    assert numbers_in("docs/methods/trivial_augment_wide.md", "with 40 epochs, it changed by # ± # points.") == changed
    assert max(lost) < 0
    found = numbers_in("docs/ladder.md", "Training accuracy falls from # % to # and # %, so TrivialAugmentWide is")
    assert found == [round(row["train"].mean(), 1) for row in (top, rand, wide)]


def test_policies_with_more_epochs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    ladder = importlib.import_module("cifar10_results")
    done = results("ladder_small_80_epochs")
    assert ladder.table(done) in (ROOT / "docs" / "ladder.md").read_text(encoding="utf-8")
    rows = ladder.summary(done)
    means = {row["rung"].name: round(row["validation"].mean(), 1) for row in rows}
    flips = "+ flip, crop with padding 2"
    auto, rand, trivial = (f"aside: {name} after flip and crop" for name in POLICIES.values())
    steps = {row["rung"].name: ladder.step(row, rows) for row in rows if row["rung"].name != flips}
    change = [round(value, 1) for value in (steps[rand].mean(), steps[rand].std(ddof=1))]
    found = numbers_in("docs/ladder.md", "It changed validation accuracy by # ± # points, and the differences")
    assert found == change == numbers_in("docs/which.md", "With 80 epochs, RandAugment changed it by # ± # points")
    seeds = [round(value, 1) for value in steps[rand]]
    assert len(seeds) == 3 and numbers_in("docs/ladder.md", "of the seeds are #, # and #.") == seeds
    stated = "the validation accuracy changed by # ± # points, and the differences for the seeds are #, # and #"
    assert numbers_in("docs/methods/rand_augment.md", stated) == change + seeds
    share = means[rand] / 100
    assert min(seeds) > 0 and change[0] > 200 * np.sqrt(2 * share * (1 - share) / 30_000)  # "it helps"
    stated = "The rung with flips and crops reaches # % and RandAugment # %, the best"
    assert numbers_in("docs/ladder.md", stated) == [means[flips], means[rand]] and means[rand] == max(means.values())
    for name, card, stated in (
        (auto, "auto_augment", "The change is # ± # points with AutoAugment (#, # and #)"),
        (trivial, "trivial_augment_wide", "and # ± # with TrivialAugmentWide (#, # and #)."),
    ):
        change = [round(value, 1) for value in (steps[name].mean(), steps[name].std(ddof=1))]
        seeds = [round(value, 1) for value in steps[name]]
        assert numbers_in("docs/ladder.md", stated) == change + seeds
        stated = (
            "With 80 epochs, the change is # ± #"
            if name == auto
            else "epochs, validation accuracy changed by # ± # points: no"
        )
        assert numbers_in(f"docs/methods/{card}.md", stated) == change
        assert min(seeds) <= 0  # "no clear effect"


def test_the_ladder_in_the_readme(rungs):
    by_name = {name: (train, validation) for train, validation, _, name in rungs}
    plain, flips = by_name["plain convolutional network"], by_name["+ flip, crop with padding 2"]
    found = numbers_in("README.md", "accuracy rises from # to # % and the gap shrinks from # to # points")
    assert found[:2] == [round(plain[1], 1), round(flips[1], 1)]
    assert found[2:] == [round(plain[0] - plain[1]), round(flips[0] - flips[1])]


def test_what_helped_on_the_ladder(rungs):
    page, by_name = "docs/ladder.md", {name: row for *row, name in rungs}

    def gains(*names):
        return [round(by_name[name][2].mean(), 1) for name in names]

    def gaps(*names):
        return [round(by_name[name][0] - by_name[name][1], 1) for name in names]

    plain, l2, flips = "plain convolutional network", "+ L2 5e-4", "+ flip, crop with padding 2"
    assert numbers_in(page, "classifies # % of the validation images correctly") == [round(by_name[plain][1], 1)]
    lower = gains("+ random erasing", "+ batch normalization", "+ dropout 0.2 in each block")
    assert numbers_in(page, "Random erasing gains # points, batch normalization # and dropout #.") == lower
    assert numbers_in(page, "L2 changes nothing (# points).") == gains(l2)
    stated = "Flips and crops gain most, # points, and shrink the gap from # to # points."
    assert numbers_in(page, stated) == gains(flips) + gaps(l2, flips)
    names = [name for name in by_name if not name.startswith("aside")]
    fitted = [round(by_name[name][0], 1) for name in names[names.index(flips) + 1 :]]
    assert numbers_in(page, "training accuracy is between # and # %.") == [min(fitted), max(fitted)]
    stated = "by # points with the learning rate decay, by # with rotation and by # with the first increase"
    slower = "+ exponential rate, gamma 0.96", "+ rotation by up to 5 degrees", "+ capacity"
    assert numbers_in(page, stated) == gains(*slower)
    decay, *others = (next(step for *_, step, name in rungs if name == rung) for rung in slower)
    assert max(decay) < 0  # "loses with every seed"
    assert all(abs(step.mean()) <= step.std(ddof=1) for step in others)  # "no larger than the differences"
    mixed = gaps("+ capacity once more", "+ MixUp or CutMix")
    assert numbers_in(page, "MixUp or CutMix shrinks the gap from # to # points,") == mixed
    top = gains("+ label smoothing 0.1", "+ average of the weights")
    assert numbers_in(page, "label smoothing gains # points, and weight averaging gains #.") == top
    assert numbers_in(page, "normalization changes nothing (# points)") == gains("+ noisy batch normalization 0.1")
    (lost,) = numbers_in(page, "stochastic depth seems to lose # points.")
    assert [-lost] == gains("+ stochastic depth, up to 0.1")
    assert numbers_in(page, "reaches the # % of the flips again.") == [round(by_name[flips][1], 1)]
    assert max(by_name[name][1] for name in names[names.index(flips) + 1 :]) < by_name[flips][1]
    hours = sum(run["cpu_seconds"] for run in results("ladder_small")["runs"]) / 3600
    assert numbers_in(page, "takes about # hours of processor time") == [round(hours, 1)]


def test_the_tables_of_the_ladder(monkeypatch):
    """To renew them: `cifar10_ladder.py --show` and `cifar10_sweep.py --show`."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    ladder, sweep = (importlib.import_module(name) for name in ("cifar10_results", "cifar10_sweep"))
    page = (ROOT / "docs" / "ladder.md").read_text(encoding="utf-8")
    for name in ("ladder_small", "ladder_full", "ladder_full_100_epochs"):
        assert ladder.table(results(name)) in page, name
    full = {run["rung"]: run for run in results("ladder_full")["runs"]}
    best, rate = full["+ average of the weights"], full["+ exponential rate, gamma 0.96"]
    found = numbers_in("docs/ladder.md", "with # %. It is # points above the exponential rate and gets # % of")
    expected = best["validation"], best["validation"] - rate["validation"], best["train"]
    assert found == [round(100 * share, 1) for share in expected]
    assert best["validation"] == max(run["validation"] for run in full.values())
    steps = {
        row["rung"].name: ladder.step(row, rows) for rows in [ladder.summary(results("ladder_full"))] for row in rows
    }
    stated = "capacity gains # points and the average of the weights #. Rotation loses # points,"
    named = "+ capacity", "+ average of the weights", "+ rotation by up to 5 degrees"
    gained, averaged, rotated = (round(float(steps.pop(name)[0]), 1) for name in named)
    assert numbers_in("docs/ladder.md", stated) == [gained, averaged, -rotated]
    most = max(float(step[0]) for step in steps.values() if step is not None and len(step))
    assert numbers_in("docs/ladder.md", "the learning rate decay gains most, # points.") == [round(most, 1)]
    upper = [float(steps[name][0]) for name in list(steps)[list(steps).index("+ exponential rate, gamma 0.96") + 1 :]]
    (least,) = numbers_in("docs/ladder.md", "no other rung changes the accuracy by more than # points")
    assert least == round(max(map(abs, upper[:-2])), 1)  # without the asides
    longer, *policies = results("ladder_full_100_epochs")["runs"]
    stated = "the top rung gains # points and reaches # %. It then gets # % of its training images right."
    expected = longer["validation"] - best["validation"], longer["validation"], longer["train"]
    assert numbers_in("docs/ladder.md", stated) == [round(100 * share, 1) for share in expected]
    stated = "it gains another # points and reaches # %, and with RandAugment # points and # %."
    expected = [share for run in policies for share in (run["validation"] - longer["validation"], run["validation"])]
    assert numbers_in("docs/ladder.md", stated) == [round(100 * share, 1) for share in expected]
    gaps = [round(100 * (run["train"] - run["validation"]), 1) for run in (longer, *policies)]
    assert numbers_in("docs/ladder.md", "The gap shrinks from # points to # and #.") == gaps
    measured = results("ladder_sweep")
    assert sweep.table(measured) in page

    def held_out(rung, strength, epochs, seed=100):
        case = {"rung": rung, "strength": strength, "epochs": epochs, "seed": seed}
        (run,) = (run for run in measured["runs"] if case.items() <= run.items())
        return 100 * run["validation"]

    both = {rung: [held_out(rung, 1.0, 80, seed) for seed in (100, 101)] for rung in (sweep.TOP, sweep.FLIPS)}
    ahead = [round(top - flips, 1) for top, flips in zip(*both.values(), strict=True)]
    stated = "it is ahead with both seeds, by # and # points: # against # % on average."
    means = [round(np.mean(values), 1) for values in both.values()]
    assert numbers_in("docs/ladder.md", stated) == ahead + means and min(ahead) > 0
    assert numbers_in("README.md", "with 80 epochs, the top rung is # and # points ahead of the flips (two") == ahead
    top, flips = ([held_out(rung, 1.0, epochs) for epochs in (20, 80)] for rung in (sweep.TOP, sweep.FLIPS))
    assert top[0] < flips[0]
    stated = "With the first seed, it gains # points from 20 to 80 epochs, and the flips gain #."
    found = numbers_in("docs/ladder.md", stated)
    assert found == [round(last - first, 1) for first, last in (top, flips)]
    found = numbers_in("docs/ladder.md", "a quarter of the strengths is best: # instead of # %.")
    assert found == [round(value, 1) for value in (held_out(sweep.TOP, 0.25, 20), top[0])]
    stated = "# % with full strength, # % with half and # % with a quarter"
    longest = [round(held_out(sweep.TOP, strength, 80), 1) for strength in (1.0, 0.5, 0.25)]
    assert numbers_in("docs/ladder.md", stated) == longest == sorted(longest, reverse=True)
    found = numbers_in("docs/ladder.md", "ahead of the flips with 40 epochs already, # against # %")
    assert found == [round(held_out(rung, 1.0, 40), 1) for rung in (sweep.TOP, sweep.FLIPS)]
    rows = {row["rung"].name: row["validation"] for row in ladder.summary(results("ladder_small"))}
    assert (rows[sweep.TOP] < rows[sweep.FLIPS]).all() and len(rows[sweep.TOP]) == 3  # "behind with every seed"


def test_the_ladder_with_fewer_epochs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    ladder = importlib.import_module("cifar10_results")
    rows = ladder.summary(results("ladder_small_20_epochs"))
    by_name = {row["rung"].name: row["validation"].mean() for row in rows}
    stated = "# % for the plain network, # % with flips, # % at the top"
    names = ("plain convolutional network", "+ flip, crop with padding 2", "+ average of the weights")
    assert numbers_in("docs/ladder.md", stated) == [round(by_name[name], 1) for name in names]
    longer = {row["rung"].name: row["validation"].mean() for row in ladder.summary(results("ladder_small"))}
    stated = "the plain network changes by # points, the flips gain # and the top gains #."
    assert numbers_in("docs/ladder.md", stated) == [round(longer[name] - by_name[name], 1) for name in names]


# Simulations.


def test_early_stopping_on_simulated_curves():
    """To renew it: `examples/early_stopping_simulation.py --out docs/results`, without its picture."""
    page, found = "docs/methods/smoothed_early_stopping.md", results("early_stopping_simulation")
    assert found["curves"] == 1000
    rows = found["patience"]["10"]
    plain, smoothed = rows["Keras EarlyStopping"], rows["smoothed, ema"]
    stated = 'by # with Keras\' callback and by # with "ema", a difference of # ± #.'
    values = [plain["excess"], smoothed["excess"], -smoothed["difference"], smoothed["error"]]
    assert numbers_in(page, stated) == [round(value, 3) for value in values]
    epochs = [round(smoothed["epochs"]), round(plain["epochs"])]
    assert numbers_in(page, "Smoothing trains for # epochs instead of #.") == epochs
    longer = rows["Keras EarlyStopping, as many epochs"]["excess"]
    assert numbers_in(page, "epochs, Keras' callback reaches #,") == [round(longer, 3)]


def test_a_search_that_stops_what_diverges():
    """To renew it: `examples/random_search.py --out docs/results`, without its picture."""
    found = results("random_search")["coarse"]
    stated = "with # trials and learning rates from 1e-6 to 100, it stopped # trials and saved # % of all batches"
    values = [found["trials"], found["stopped"], round(100 * found["saved"])]
    assert numbers_in("docs/methods/divergence_stop.md", stated) == values


def test_the_page_has_the_milliseconds_of_compiled_warps():
    rows = [row for row in results("performance")["layers"]["torch"]["rows"] if row["mode"] == "compile"]
    ms = {row["who"]: row["ms"] for row in rows if (row["layer"], row["size"]) == ("RandomAffine", "64x224x224x3")}
    found = numbers_in(
        "docs/performance.md",
        "RandomAffine compiled by `torch.compile` takes # ms for 64x224x224x3, and kornia's rotation # ms",
    )
    assert found == [round(ms["keras_reg"]), round(ms["kornia"])]


# Figures.

# What each figure shows, from the results of that name.
SHOWN = {
    "after_training": lambda: results("after_training_digits"),
    "after_training_images": lambda: results("after_training_images"),
    "effects": lambda: results("effects"),
    "ladder": lambda: merged("ladder_small"),
    "ladder_full": lambda: merged("ladder_full"),
    "ladder_sweep": lambda: results("ladder_sweep"),
    "performance": lambda: results("performance")["layers"],
    "quickstart": lambda: results("quickstart"),
    "scale": lambda: results("performance")["scale"],
    "transfer": lambda: results("transfer"),
    "users": lambda: results("performance"),
    "wrong_labels": lambda: [results("wrong_labels_digits")],
    "wrong_labels_features": lambda: [results("wrong_labels_features")],
}
WITHOUT_RESULTS = {"tensorboard_gradients", "vanishing_gradients"}  # of a single run, which no page has numbers of


def merged(name):
    return importlib.import_module("cifar10_results").merge([RESULTS / f"{name}.json"])


def test_every_figure_of_results_is_compared_with_them():
    assert {path.stem for path in (ROOT / "docs" / "figures").glob("*.png")} == SHOWN.keys() | WITHOUT_RESULTS


@pytest.mark.parametrize("name", SHOWN)
def test_a_figure_shows_the_results_of_the_repository(name, monkeypatch):
    """To renew it, run the program that is named beside it on its page; without training where the program can show."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    saved_figures = importlib.import_module("saved_figures")
    assert saved_figures.shown(ROOT / "docs" / "figures" / f"{name}.png") == saved_figures.digest(SHOWN[name]())


def test_a_saved_figure_names_its_results(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    saved_figures, pyplot = importlib.import_module("saved_figures"), pytest.importorskip("matplotlib.pyplot")
    saved_figures.save(pyplot.figure(), tmp_path / "new" / "figure.png", {"a": (1.5, 2), "b": "x"})
    shown = saved_figures.shown(tmp_path / "new" / "figure.png")
    assert shown == saved_figures.digest({"b": "x", "a": [1.5, 2]}) != saved_figures.digest({"b": "x", "a": [1.5, 3]})
