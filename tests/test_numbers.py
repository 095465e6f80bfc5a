"""Measured numbers on the pages are those in docs/results. Those of a program are also compared in its own tests."""

import importlib
import itertools
import json
import re
import statistics

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


def numbers_in(page, pattern):
    """The numbers of the one sentence that has the form of `pattern`, where `#` stands for a number."""
    form = re.escape(pattern).replace(r"\#", r"([+-]?\d+(?:\.\d+)?)").replace(r"\ ", " ")
    found = re.findall(form, text_of(page))
    assert len(found) == 1, f"{page}: {pattern}"
    return [float(number) for number in np.ravel(found[0])]


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
    rest = [row for entry in measured["training"].values() for row in entry["rows"]]
    (limit,) = numbers_in("README.md", "no measurable cost (less than # %)")
    assert max(abs(row[key] - 1) for row in rest for key in ("ratio", "processor")) < limit / 100
    losses = [row for entry in measured["losses"].values() for row in entry["rows"] if row["loss"] == "keras_reg"]
    shares = [row["to_plain"] for row in losses]
    found = numbers_in("README.md", "class ids takes # to # times as long as the backend's plain cross-entropy")
    assert found == [round(min(shares), 1), round(max(shares), 1)]


@pytest.mark.parametrize("page", ["README.md", "docs/methods/transfer_learner.md"])
def test_features_that_are_computed_once(page):
    rows = [entry["rows"][0] for entry in results("performance")["feature_cache"].values()]
    images, size = *numbers_in(page, "(# images of "), rows[0]["size"]
    assert {(row["images"], row["size"]) for row in rows} == {(images, size)}
    (faster,) = numbers_in(page, "MobileNetV2 # times faster")
    assert faster == int(min(row["ratio"] for row in rows))


# Accuracies.


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
    steps = set()
    for before, after in itertools.pairwise(rungs):
        if after[2] is not None and len(after[2]):
            change = f"{after[2].mean():+.1f}", f"{after[2].std(ddof=1):.1f}"
            steps.add((*change, f"{before[0] - before[1]:.1f}", f"{after[0] - after[1]:.1f}"))
    found = {(page.name, numbers) for page in PAGES for numbers in stated.findall(text_of(page))}
    assert {(name, numbers) for name, numbers in found if numbers not in steps} == set()


def test_the_ladder_in_the_readme(rungs):
    by_name = {name: (train, validation) for train, validation, _, name in rungs}
    plain, flips = by_name["plain convolutional network"], by_name["+ flip, crop with padding 2"]
    found = numbers_in("README.md", "accuracy rises from # to # % and the gap shrinks from # to # points")
    assert found[:2] == [round(plain[1], 1), round(flips[1], 1)]
    assert found[2:] == [round(plain[0] - plain[1]), round(flips[0] - flips[1])]
