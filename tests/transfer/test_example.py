"""The example runs with each kind of backbone at smoke size, continues where it stopped, and keeps its splits apart."""

import collections
import importlib
import json
import re

import numpy as np
import pytest
from harness import ROOT, slow_on


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


@pytest.fixture
def example(examples):
    return examples("transfer_learning")


@pytest.fixture
def images(tmp_path):
    """An .npz of random images, each of which is different."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 32, 32, 3), "uint8")
    y = np.arange(60) % 3
    path = tmp_path / "images.npz"
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return path


@slow_on("tensorflow", "jax")
def test_half_of_the_classes_and_then_the_others(example, tmp_path, capsys, monkeypatch):
    arguments = {"out": tmp_path, "only": ["warm up, fine-tune"], "smoke": True}
    done = example.main(**arguments)
    (run,) = done["runs"]
    assert (run["per_class"], run["seed"], run["recipe"]) == (2, 0, "warm up, fine-tune") and 0 <= run["accuracy"] <= 1
    assert (tmp_path / "transfer_digits.png").exists() and "| warm up, fine-tune |" in capsys.readouterr().out
    assert json.loads((tmp_path / "transfer_digits.json").read_text()) == done
    monkeypatch.setattr(example, "run", None)  # a finished run is not made again
    assert example.main(**arguments) == done
    with pytest.raises(ValueError, match=r"same settings.*Received: "):
        example.main(**(arguments | {"judged": 10, "smoke": False, "per_class": (2,)}))


def test_nothing_that_is_judged_by_was_trained_on(example, monkeypatch):
    monkeypatch.setattr(example, "pretrain", lambda *_: None)
    task = example.new_classes(None, 5, seed=1, most=None, epochs=1)
    assert task.classes == 5 and len(task.learn[0]) == 25 and set(task.judge[1]) == set(task.learn[1]) == set(range(5))
    assert not {image.tobytes() for image in task.learn[0]} & {image.tobytes() for image in task.judge[0]}


def test_images_for_choices_are_in_no_other_run(example, examples, images):
    data = examples("example_data").load(images)

    def task(seed):
        return example.all_classes(data, 4, seed, 15, "efficientnet_lite0", None, 64)

    def pictures(*pairs):
        return [{image.tobytes() for image in x} for x, _ in pairs]

    one, two, choice = task(0), task(1), task(example.TUNING)
    learned, judged, learned_too, judged_too = pictures(one.learn, one.judge, two.learn, two.judge)
    for_choice, judging_choice = pictures(choice.learn, choice.judge)
    assert judged == judged_too and len(judged) == 15 and learned != learned_too
    assert not judging_choice & (learned | judged | learned_too) and not for_choice & judged
    assert np.bincount(one.learn[1]).tolist() == [4, 4, 4] and one.learn[0].max() > 1
    backbone, arguments = one.make("new")
    assert backbone.output_shape[-1] == 1280 and arguments["preprocess"](one.learn[0][:1]).shape == (1, 64, 64, 3)
    assert one.make("small")[0].output_shape == (None, 64)


def test_mixing_is_left_for_the_last_phase(examples):
    """The backbone is trained in place, and the head goes on from the warm-up."""
    import keras

    module = examples("transfer_recipes")
    backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")], name="net")
    before = backbone.get_weights()[0]
    rng = np.random.default_rng(0)
    data = rng.random((12, 8, 8, 3), "float32"), np.arange(12) % 3
    recipe = module.recipes(module.Plan(1, 1, batch=6), 12)[module.MIXED]
    learner = module.train(backbone, 3, data, recipe, 6, seed=0)
    assert list(learner.history) == ["fine-tune"] and learner.model.output_shape == (None, 3)
    assert not np.allclose(before, backbone.get_weights()[0])


class Interruption(Exception):
    pass


def test_an_interrupted_run_continues_after_its_last_epoch(examples, monkeypatch, tmp_path):
    import keras

    module, rng = examples("transfer_recipes"), np.random.default_rng(0)
    data = rng.random((12, 8, 8, 3), "float32"), np.arange(12) % 3
    epochs = []

    class Counter(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)
            if epochs == [0, 1, 2, 0, 1]:
                raise Interruption

    fit = module.TransferLearner.fit
    monkeypatch.setattr(
        module.TransferLearner, "fit", lambda *args, **given: fit(*args, **given, callbacks=[Counter()])
    )

    def trained(folder):
        keras.utils.set_random_seed(0)
        backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)], name="net")
        recipe = module.recipes(module.Plan(1, 1, scratch_epochs=3, batch=6), 12)[module.SCRATCH]
        return module.train(backbone, 3, data, recipe, 6, seed=0, backup_dir=folder).model.get_weights()

    whole = trained(tmp_path / "whole")
    with pytest.raises(Interruption):
        trained(tmp_path / "part")
    for a, b in zip(whole, trained(tmp_path / "part"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert epochs == [0, 1, 2, 0, 1, 1, 2]


@slow_on("tensorflow", "jax")
def test_backups_are_removed_once_a_run_is_saved(example, tmp_path):
    (run,) = example.main(out=tmp_path, only=["fine-tune at once"], smoke=True, backups=True)["runs"]
    assert "resumed" not in run and not any((tmp_path / "unfinished").iterdir())


@pytest.mark.slow
def test_an_application(example, images, tmp_path):
    arguments = {"source": images, "backbone": "MobileNetV2", "weights": None, "only": ["frozen features"]}
    done = example.main(**arguments, out=tmp_path, smoke=True)
    assert len(done["runs"]) == 1 and (tmp_path / "transfer.json").exists()


def test_a_table_says_where_seeds_are_missing(examples, tmp_path):
    results = examples("transfer_results")
    runs = [
        {"recipe": "from scratch", "per_class": 10, "seed": seed, "accuracy": 0.5 + 0.1 * seed} for seed in range(3)
    ]
    runs += [{"recipe": "frozen features", "per_class": 10, "seed": 0, "accuracy": 0.25}]
    runs += [{"recipe": "from scratch", "per_class": 50, "seed": seed, "accuracy": 0.75} for seed in range(2)]
    done = {"runs": runs}
    assert results.table(done).splitlines()[2:] == [
        "| from scratch | 60.0 ± 10.0 | 75.0 ± 0.0 (2 seeds) |",
        "| frozen features | 25.0 (1 seed) |  |",
    ]
    results.draw(done, tmp_path / "transfer.png")
    assert (tmp_path / "transfer.png").stat().st_size > 5_000


@pytest.fixture(scope="module")
def measured():
    return json.loads((ROOT / "docs" / "results" / "transfer.json").read_text(encoding="utf-8"))


@pytest.mark.once
@pytest.mark.parametrize("page", ["docs/transfer.md", "examples/notebooks/06_transfer_learning.py"])
def test_pages_have_the_table_of_the_results(examples, measured, page):
    """Where this fails: `examples/transfer_results.py` with `--pages`, then `make notebooks-rebuild ARGS=06`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert examples("transfer_results").renew(text, measured) == text


# What is stated in sentences: {page: [(recipe, images per class)]}.
FROZEN, SMALL, WARM_UP = "frozen features", "from scratch, small network", "warm up, fine-tune"
OF_BATCHES, MIXED, COURSE = "batch norm of batches", "mixing and smoothing", "recipe of the course"
AT_ONCE, DECAY = "fine-tune at once", "layer-wise rates"
FEW = [(FROZEN, 10), (SMALL, 10)]
STATED = {
    "docs/transfer.md": [
        *FEW,
        *((recipe, 10) for recipe in ("from scratch", WARM_UP, "layer-wise rates", MIXED, OF_BATCHES)),
        *((recipe, 50) for recipe in (WARM_UP, AT_ONCE, OF_BATCHES, "layer-wise rates", MIXED, FROZEN)),
        *((recipe, 50) for recipe in (COURSE, SMALL)),
        ("from scratch", 500),
        *((recipe, 500) for recipe in (FROZEN, SMALL, WARM_UP, MIXED, OF_BATCHES, AT_ONCE, DECAY, COURSE)),
    ],
    "docs/methods/transfer_learner.md": [*FEW, (WARM_UP, 10), (WARM_UP, 50), (MIXED, 50), (FROZEN, 50)],
    "docs/which.md": [*FEW, (WARM_UP, 50), (FROZEN, 50)],
}


@pytest.mark.once
@pytest.mark.parametrize("page", STATED)
def test_pages_state_the_results(examples, measured, page):
    module = examples("transfer_results")
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for recipe, per_class in STATED[page]:
        mean, *seeds = module.cell(module.accuracies(measured, recipe, per_class)).partition(" (")
        stated = f"{mean} %{''.join(seeds)}"
        assert stated in text, f"{recipe}, {per_class} per class: {stated}"


def differences(measured, recipe, per_class, other=FROZEN):
    """Points by which a recipe exceeds another, for each seed that both have."""
    found = {
        (run["recipe"], run["seed"]): 100 * run["accuracy"] for run in measured["runs"] if run["per_class"] == per_class
    }
    seeds = [seed for seed in range(3) if {(recipe, seed), (other, seed)} <= set(found)]
    return [found[recipe, seed] - found[other, seed] for seed in seeds]


def listed(numbers, sign=""):
    *first, last = (f"{number:{sign}.1f}" for number in numbers)
    return f"{', '.join(first)} and {last}" if first else last


@pytest.mark.once
def test_every_cell_has_three_seeds(examples, measured):
    names, measured = examples("transfer_recipes").NAMES, measured["runs"]
    found = collections.Counter((run["recipe"], run["per_class"]) for run in measured)
    fewer = {(name, size): found[name, size] for name in names for size in (10, 50, 500) if found[name, size] != 3}
    assert not fewer


@pytest.mark.once
def test_the_page_names_the_runs_on_another_backend(measured):
    others = [(r["recipe"], r["per_class"], r["seed"], r["backend"]) for r in measured["runs"] if "backend" in r]
    first = [(AT_ONCE, 500), (DECAY, 500), (COURSE, 500), ("from scratch", 50)]
    expected = [(*run, seed, "tensorflow") for run in first for seed in (1, 2)]
    assert others == [*expected, *(("from scratch", 500, seed, "tensorflow") for seed in (0, 1, 2))]
    stated = (
        "These runs were measured with TensorFlow on a CPU: the second and the third seed of EfficientNet-Lite0 from "
        "scratch with 50 images per class and, with 500, those of fine-tuning at once, of layer-wise rates and of the "
        "recipe of the course, and all seeds from scratch."
    )
    assert stated in " ".join((ROOT / "docs" / "transfer.md").read_text(encoding="utf-8").split())


@pytest.mark.once
def test_differences_from_frozen_features(measured):
    page = " ".join((ROOT / "docs" / "transfer.md").read_text(encoding="utf-8").split())
    lower = [-points for points in differences(measured, WARM_UP, 10)]
    assert f"which is {listed(lower)} points below frozen features on the three seeds." in page and min(lower) > 0
    gains, more = differences(measured, WARM_UP, 50), differences(measured, MIXED, 50, WARM_UP)
    assert f"The differences of the seeds are {listed(gains, '+')} points." in page and min(gains) > 0
    assert f"which is {listed(more)} points more on the three seeds." in page and min(more) > 0
    larger = listed(differences(measured, "from scratch", 500, SMALL), "+")
    assert f"no clear effect, since the differences from the small network are {larger} points." in page
    gains, fallen = differences(measured, WARM_UP, 500), differences(measured, OF_BATCHES, 500, WARM_UP)
    assert f"which is {listed(gains)} points less on the three seeds." in page and min(gains) > 0
    assert f"which is {listed([-x for x in fallen])} points lower than in inference mode. " in page and max(fallen) < 0
    at_once = differences(measured, AT_ONCE, 500, WARM_UP)
    stated = "no clear effect, since the differences from fine-tuning after a warm-up are "
    assert stated + f"{listed(at_once, '+')} points." in page and min(at_once) < 0 < max(at_once)
    fewer = [-points for points in differences(measured, DECAY, 500, WARM_UP)]
    assert f"which is {listed(fewer)} points less than a warm-up and fine-tuning, and the recipe" in page
    assert min(fewer) > 0
    fewer = [-points for points in differences(measured, COURSE, 500, WARM_UP)]
    stated = f"the recipe of the course reaches 81.3 ± 0.1 %, which is {listed(fewer)} points less."
    assert stated in page and min(fewer) > 0
    course = differences(measured, COURSE, 50)
    assert f"which is {listed(course)} points above frozen features on the three seeds." in page and min(course) > 0
    fallen = [-points for points in differences(measured, OF_BATCHES, 50, WARM_UP)]
    seeds = ("on the first seed", "on the first two seeds", "on the three seeds")[len(fallen) - 1]
    assert f"which is {listed(fallen)} points lower than in inference mode {seeds}." in page and min(fallen) > 0


@pytest.mark.once
def test_the_rates_that_were_compared(examples):
    found = json.loads((ROOT / "docs" / "results" / "transfer_choice.json").read_text(encoding="utf-8"))["runs"]
    percent = {(run["field"], run["value"]): f"{100 * run['accuracy']:.1f}" for run in found}
    rates = [("head_rate", r) for r in (1e-3, 3e-3, 1e-2)] + [("rate", r) for r in (1e-4, 3e-4, 1e-3)]
    head, tuning = [percent[key] for key in rates[:3]], [percent[key] for key in rates[3:]]
    small = percent["small_rate", 1e-3], percent["small_rate", 3e-3]
    page = " ".join((ROOT / "docs" / "transfer.md").read_text(encoding="utf-8").split())
    assert f"for the head ({', '.join(head[:2])} and {head[2]} %; 3e-3 is used)" in page
    assert f"for fine-tuning after a warm-up ({', '.join(tuning[:2])} and {tuning[2]} %)" in page
    assert f"for the small network ({small[0]} and {small[1]} %)" in page
    assert f"after fine-tuning from {percent['rate', 3e-4]} to {percent['rate', 1e-3]} % (one seed)" in page
    plan = examples("transfer_recipes").plan_for(100)
    assert (plan.head_rate, plan.rate, plan.small_rate) == (3e-3, 3e-4, 3e-3)


@pytest.mark.once
def test_fine_tuning_does_not_exceed_frozen_features_of_ten_images_per_class(examples, measured):
    """As docs/transfer.md says: no kind of it on all seeds."""
    names = [name for name in examples("transfer_recipes").NAMES if name != FROZEN]
    for name in names:
        found = differences(measured, name, 10)
        assert len(found) == 3 and min(found) < 0, name


@pytest.mark.once
def test_the_plans_have_the_rates_that_were_chosen(examples, measured):
    """Those that reached the highest accuracy on other images, up to the noise of one seed."""
    module = examples("transfer_recipes")
    choice = json.loads((ROOT / "docs" / "results" / "transfer_choice.json").read_text(encoding="utf-8"))
    assert choice["settings"]["choice"] and {run["seed"] for run in choice["runs"]} == {100}
    for name, (field, values) in module.CHOICES.items():
        found = {run["value"]: run["accuracy"] for run in choice["runs"] if run["recipe"] == name}
        chosen = getattr(module.plan_for(100), field)
        assert found.keys() == set(values) and max(found.values()) - found[chosen] < 0.01
    for per_class, plan in measured["settings"]["plans"].items():
        assert plan == vars(module.plan_for(10 * int(per_class)))


@pytest.mark.once
def test_on_digits_a_small_network_is_better_than_features_of_photographs():
    """On every seed, as docs/transfer.md, docs/which.md and the notebook say. There, fine-tuning does help."""
    path = ROOT / "examples" / "notebooks" / "06_transfer_learning.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    printed = "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))
    rows = re.findall(r"^(\w[\w ,-]*?) +[\d.]+ % +([\d. ]+)$", printed, re.MULTILINE)
    found = {name: np.array(values.split(), float) for name, values in rows}
    assert list(found) == ["frozen features", "then fine-tuned", "from scratch", "from scratch, augmented"]
    assert all(values.shape == (3,) for values in found.values())
    assert (found["from scratch"] > np.maximum(found["frozen features"], found["then fine-tuned"])).all()
    assert (found["from scratch, augmented"] > found["from scratch"]).all()
    assert (found["then fine-tuned"] > found["frozen features"]).all()
