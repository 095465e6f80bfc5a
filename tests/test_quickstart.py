"""The quickstart runs on each kind of data that it takes, and the pages state its recipe and its numbers."""

import importlib
import json
import re
import textwrap

import numpy as np
import pytest
from harness import BACKEND, ROOT, digits, slow_on, to_numpy


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    return importlib.import_module


@pytest.fixture
def quickstart(example):
    return example("quickstart")


@pytest.fixture
def shared(example):
    return example("digits")


def as_npz(folder):
    images, labels = digits(60)
    path = folder / "small.npz"
    np.savez(path, x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
    return path


def as_folders(folder):
    from PIL import Image

    images, labels = digits(60)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "images" / f"class_{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat((255 * image).astype("uint8"), 3, axis=-1)).save(place / f"{number}.png")
    return folder / "images"


@slow_on("tensorflow", "jax")
@pytest.mark.parametrize("make", [lambda folder: None, as_npz, as_folders], ids=["digits", "npz", "folder"])
def test_quickstart(quickstart, make, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quickstart, "LABELED_WRONG", 60)
    if make in (as_npz, as_folders) and BACKEND != "torch":
        pytest.skip("what reads the data has no backend, and each size would be compiled")
    runs = quickstart.main(make(tmp_path), labeled=30, seeds=1, epochs=1, out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert "plain" in printed and "keras_reg" in printed and "±" in printed and "s in all" in printed
    compared = [("few", "plain"), ("few", "keras_reg")]
    if make not in (as_npz, as_folders):
        compared += [("twice", "plain"), *(("wrong", run) for run in ("plain", "plain, same rate", "keras_reg"))]
    assert [(run["task"], run["run"]) for run in runs] == compared
    assert json.loads((tmp_path / "out" / "quickstart.json").read_text())["runs"] == json.loads(json.dumps(runs))
    assert (tmp_path / "out" / "quickstart.png").stat().st_size > 10_000


@pytest.mark.once
def test_the_same_seed_labels_the_same_images_and_as_many_of_each_class(example):
    load = example("example_data").load
    one, two, other = load(None, 200, 3), load(None, 200, 3), load(None, 200, 4)
    np.testing.assert_array_equal(one.x_train, two.x_train)
    assert (np.bincount(one.y_train) == 20).all() and len(one.x_val) == 1597
    assert len(one.x_train) != len(other.x_train) or (one.x_train != other.x_train).any()
    both = np.concatenate([one.x_train, one.x_val]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == len(np.unique(digits()[0].reshape(1797, -1), axis=0))


@pytest.mark.once
@pytest.mark.parametrize("data", ["images.csv", "nowhere"])
def test_other_data_are_refused(quickstart, data, tmp_path):
    with pytest.raises(ValueError, match="Received: data="):
        quickstart.main(data, out=tmp_path)


@pytest.mark.once
def test_exactly_the_given_share_of_the_labels_is_wrong(shared):
    data, same, other = shared.load(800, 1, wrong=0.3), shared.load(800, 1, wrong=0.3), shared.load(800, 2, wrong=0.3)
    assert (data.y_train != data.clean).sum() == 240 and len(data.x_test) == 997
    assert set((data.y_train - data.clean)[data.y_train != data.clean] % 10) == set(range(1, 10))
    np.testing.assert_array_equal(data.y_train, same.y_train)
    assert (data.x_train != other.x_train).any()
    assert np.abs(np.bincount(data.clean) - 80).max() <= 3
    pairs = shared.wrong_labels(data.clean, 0.4, 5, kind="pairs")
    assert sorted(np.bincount((pairs - data.clean) % 10)) == [320, 480]
    with pytest.raises(ValueError, match="Received: kind='random'"):
        shared.wrong_labels(data.clean, 0.4, 5, kind="random")


@pytest.mark.once
def test_images_are_shifted_by_one_pixel_and_boxes_are_hidden(shared):
    images = np.random.default_rng(0).uniform(0.1, 1, (50, 7, 9, 2)).astype("float32")
    padded, found = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))), set()
    for image, before in zip(shared.shifted(images), padded, strict=True):
        moved = [
            (y, x)
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
            if (np.roll(before, (y, x), (0, 1))[1:-1, 1:-1] == image).all()
        ]
        assert len(moved) == 1
        found |= set(moved)
    assert found == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)} - {(0, 0)}
    hidden = shared.occluded(images) == 0
    for mask in hidden:
        rows, columns = np.flatnonzero(mask.any(axis=(1, 2))), np.flatnonzero(mask.any(axis=(0, 2)))
        assert len(rows) == 3 and len(columns) == 3 and mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert (hidden.sum(axis=(1, 2, 3)) == 18).all()


@pytest.mark.once
def test_the_table_compares_the_same_seeds(quickstart):
    def run(task, name, seed, test, **more):
        return {"task": task, "run": name, "seed": seed, "test": test, "shifted": 0.4, "occluded": 0.5, **more}

    few = [run("few", name, seed, [0.1, low + seed / 100]) for seed in (0, 1) for name, low in COMPARED]
    twice = [run("twice", "plain", seed, [0.92]) for seed in (0, 1)]
    wrong = [run("wrong", name, seed, [0.955, low]) for seed in (0, 1) for name, low in COMPARED]
    wrong += [run("wrong", "plain, same rate", seed, [0.8, 0.95, 0.7]) for seed in (0, 1)]
    tasks = {name: task._asdict() for name, task in quickstart.tasks().items()}
    lines = quickstart.table({"tasks": tasks, "runs": few + twice + wrong}).splitlines()
    assert any("90.5 ± 0.7 %" in line and "94.5 ± 0.7 %" in line and "(+4.0 +4.0)" in line for line in lines)
    assert any("92.0 ± 0.0 %" in line and "94.5 ± 0.7 %" in line and "(+2.0 +3.0)" in line for line in lines)
    assert any("best epoch" in line and "95.5 ± 0.0 %" in line and "(-1.5 -1.5)" in line for line in lines)
    assert any("same rate" in line and "70.0 ± 0.0 %" in line and "(+24.0 +24.0)" in line for line in lines)


COMPARED = (("plain", 0.90), ("keras_reg", 0.94))


def test_a_network_that_is_trained_anew_starts_like_a_new_one(example):
    training, data = example("quickstart_training"), example("digits").load(30, 0)
    rates, networks = (1e-3, 3e-3), []
    for seed, rate in enumerate(rates):
        network, model = training.compiled(data, (), seed, rate)
        assert network is model
        networks.append(network)
        started = [to_numpy(v) for v in network.variables + network.optimizer.variables]
        for variable in network.variables + network.optimizer.variables:
            variable.assign(variable + 1)  # as a training changes them
    training.READY.clear()
    fresh, _ = training.compiled(data, (), 1, rates[1])
    assert networks[0] is networks[1] is not fresh
    for value, expected in zip(started, fresh.variables + fresh.optimizer.variables, strict=True):
        np.testing.assert_array_equal(value, to_numpy(expected))
    assert training.compiled(data, (), 1, 1e-3, 100)[0] is not fresh  # another schedule is compiled into the step


@pytest.mark.once
def test_progress_tells_the_time_that_is_left(example, monkeypatch, capsys):
    training, clock = example("quickstart_training"), [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])
    task = training.Task(64, 0.0, 10, 1)
    progress = training.Progress([task, task, task, task])
    for seconds in (10, 20, 30, 40):
        clock[0] = seconds
        progress.end(task, "finished")
    assert re.findall(r"(\d+) s (left|in all)", capsys.readouterr().out) == [
        ("30", "left"), ("20", "left"), ("10", "left"), ("40", "in all"),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.once
def test_processes_train_as_one_process_does(example, monkeypatch):
    training = example("quickstart_training")
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    task = training.Task(30, 0.3, 2, 1)
    jobs = [(None, task, parts, 3, training.RECIPE) for parts in (training.PARTS, ())]
    found, expected = (dict(training.train_all(jobs, processes)) for processes in (2, 1))
    assert found.keys() == expected.keys() == {0, 1} and found[0]["test"] != found[1]["test"]
    for number, measured in found.items():
        assert measured["test"] == pytest.approx(expected[number]["test"], abs=3 / 1767)  # threads round differently


@pytest.mark.once
def test_settings_are_chosen_on_other_seeds_and_no_run_is_made_twice(example, quickstart, monkeypatch, tmp_path):
    choice, made = example("quickstart_choice"), []
    monkeypatch.setattr(choice, "train", lambda data, task, parts, seed, **_: made.append(seed) or {"test": [0.4, 0.3]})
    found = choice.choose(tmp_path / "choice.json", smoke=True)
    assert len(made) == len(found) == 4 and not set(choice.SEEDS) & {0, 1, 2}
    assert choice.choose(tmp_path / "choice.json", smoke=True) == found and len(made) == 4
    trained = quickstart.tasks()
    assert all(trained[name]._replace(every=task.every) == task for name, task in choice.TASKS.items())


@pytest.mark.once
def test_the_install_shows_how_far_it_is(example):
    status, lines = example("install").Status(), []
    for line in (
        "Collecting tensorflow-cpu",
        "  Downloading https://files.example/tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_17_x86_64.whl (252.6 MB)",
        "Progress 126300000 of 252600000",
        "Installing collected packages: a, b, c",
    ):
        status.read(line)
        lines.append(status.text)
    assert lines == [
        "resolving versions",
        "downloading file 1, tensorflow_cpu-2.21.0 (252.6 MB)",
        "downloading file 1, tensorflow_cpu-2.21.0, 126 of 253 MB",
        "unpacking 3 packages",
    ]


def test_the_first_model(example, tmp_path, capsys):
    found = example("first_model").main(["--seeds", "0", "--epochs", "1", "--json", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text())["program"] == list(found["program"])
    assert "the program" in capsys.readouterr().out


# What the pages state is what was trained and measured.

PAGES = ("README.md", "docs/index.md", "docs/start.md", "examples/notebooks/01_quickstart.py")


def code_of(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return text if page.endswith(".py") else re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def without(config, *names):
    """A config without some of its entries, at every depth."""
    if isinstance(config, dict):
        return {key: without(value, *names) for key, value in config.items() if key not in names}
    return [without(part, *names) for part in config] if isinstance(config, list) else config


def made_by(code, start, end):
    """The namespace after the lines of `code` from the first that begins with `start` to before `end`."""
    import keras

    import keras_reg

    names = {"keras": keras, "keras_reg": keras_reg, "x": np.zeros((1, 8, 8, 1)), **vars(keras_reg)}
    lines = code[re.search(rf"^ *{re.escape(start)}", code, re.MULTILINE).start() :]
    exec(textwrap.dedent(lines[: re.search(rf"^ *{re.escape(end)}", lines, re.MULTILINE).start()]), names)
    return names


@pytest.mark.once
@pytest.mark.parametrize("page", PAGES)
def test_the_recipe_of_a_page_is_the_one_that_was_measured(shared, example, page):
    training, code = example("quickstart_training"), code_of(page)
    end = "return keras_reg.layers.Pipeline" if page.endswith(".py") else "model = "
    if page.endswith(".py"):
        code = code.replace("    return keras_reg.layers.Pipeline", "    augmentation = keras_reg.layers.Pipeline")
        end = "network = "
    augmentation = made_by(code, "mix = ", end)["augmentation"]
    measured = shared.augmentation(0, rate=training.MIXED)
    assert without(augmentation.get_config(), "name", "seed") == without(measured.get_config(), "name", "seed")
    assert f"LabelSmoothingCrossentropy({shared.SMOOTHING}, from_logits=True)" in code
    assert f"CosineDecay({training.LEARNING_RATE * 1000:.0f}e-3, " in code
    assert "keras.optimizers.Adam(" in code
    if page in PAGES[:2]:
        wrong = example("quickstart").tasks()["wrong"]
        steps = wrong.epochs * -(-wrong.labeled // shared.BATCH)
        assert f"decay_steps={steps})" in code and f"epochs={wrong.epochs})" in code
        assert "training.RegularizedModel(network, augmentation)" in code


@pytest.mark.once
@pytest.mark.parametrize("page", PAGES[2:])
def test_the_network_of_a_page_is_the_one_that_was_measured(shared, page):
    end = "def train" if page.endswith(".py") else "keras.utils.set_random_seed(0)"
    network = made_by(re.sub(r"^# .*$", "", code_of(page), flags=re.MULTILINE), "def make_network", end)[
        "make_network"
    ]()
    expected = shared.network()
    assert network.count_params() == expected.count_params()
    described, measured = ([(type(x), x.get_config()) for x in model.layers] for model in (network, expected))
    assert [(kind, without(config, "name")) for kind, config in described] == [
        (kind, without(config, "name")) for kind, config in measured
    ]


def stated(values):
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f} %"


def measured_values():
    """What each number is of, and how the pages write it."""
    found = json.loads((ROOT / "docs" / "results" / "quickstart.json").read_text(encoding="utf-8"))["runs"]

    def of(task, run, key=lambda measured: measured["test"][-1]):
        runs = [measured for measured in found if (measured["task"], measured["run"]) == (task, run)]
        assert [measured["seed"] for measured in runs] == [0, 1, 2]
        return np.array([key(measured) for measured in runs])

    values = {f"{task}.{run}": of(task, run) for task in ("few", "wrong") for run in ("plain", "keras_reg")}
    values["twice.plain"] = of("twice", "plain")
    values["wrong.same"] = of("wrong", "plain, same rate")
    peaks = [of("wrong", run, lambda measured: max(measured["test"])) for run in ("plain", "plain, same rate")]
    values["wrong.best"] = np.maximum(*peaks)
    for key in ("shifted", "occluded"):
        values |= {
            f"{key}.{run}": of("few", run, lambda measured, key=key: measured[key]) for run in ("plain", "keras_reg")
        }
    return values


EVERYTHING = [f"{task}.{run}" for task in ("few", "wrong", "shifted", "occluded") for run in ("plain", "keras_reg")]


@pytest.mark.once
@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("README.md", [*EVERYTHING, "twice.plain", "wrong.best", "wrong.same"]),
        ("docs/index.md", [*EVERYTHING, "twice.plain", "wrong.best", "wrong.same"]),
        ("docs/start.md", ["few.plain", "few.keras_reg", "twice.plain"]),
        ("docs/methods/pipeline.md", ["few.plain", "few.keras_reg", "wrong.plain", "wrong.keras_reg"]),
        (
            "docs/methods/label_smoothing_crossentropy.md",
            ["few.plain", "few.keras_reg", "wrong.plain", "wrong.keras_reg"],
        ),
    ],
)
def test_pages_state_what_the_programs_printed(page, names):
    """To renew them: `make quickstart ARGS="--parts --out docs/results"` and `examples/quickstart_picture.py`."""
    values, text = measured_values(), " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for name in names:
        assert stated(values[name]) in text, f"{page}: {name} is {stated(values[name])}"


@pytest.mark.once
def test_the_learning_rates_of_the_plain_network_are_the_best_of_those_compared(example):
    choice, training = example("quickstart_choice"), example("quickstart_training")
    found = json.loads((ROOT / "docs" / "results" / "quickstart_choice.json").read_text(encoding="utf-8"))["runs"]
    for task, chosen in training.PLAIN.items():
        last = {
            json.dumps(rate): sum(found[f"{task} plain {json.dumps(rate)} seed {s}"]["last"] for s in choice.SEEDS)
            for rate in choice.RATES
        }
        assert max(last, key=last.get) == json.dumps(chosen)
        rates = {rate["learning_rate"] for rate in choice.RATES}
        assert min(rates) < chosen["learning_rate"] < max(rates)
        for page in ("README.md", "docs/index.md"):
            text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
            assert "best of ten constant and falling ones: 3e-3 with 100 or 200 labels and 3e-4 with wrong" in text
    assert len(choice.RATES) == 10 and training.PLAIN == {
        "few": {"learning_rate": 3e-3, "decay": False}, "wrong": {"learning_rate": 3e-4, "decay": False},
    }  # fmt: skip


@pytest.mark.once
def test_the_difference_needs_no_legend():
    """At least three points, and every seed agrees; 100 labels with the recipe are worth 200 without."""
    values = measured_values()
    for task in ("few", "wrong", "shifted"):
        gain = 100 * (values[f"{task}.keras_reg"] - values[f"{task}.plain"])
        assert gain.mean() >= 3 and (gain > 0).all(), task
    assert (values["few.keras_reg"] > values["twice.plain"]).all()
    assert (values["wrong.keras_reg"] > values["wrong.best"]).all()


@pytest.mark.once
@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_where_the_ranges_overlap_the_page_says_that_there_is_no_clear_effect(page):
    values, text = measured_values(), (ROOT / page).read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if stated(values["occluded.plain"]) in line)
    gain = values["occluded.keras_reg"] - values["occluded.plain"]
    assert ("no clear effect" in row) == (gain.min() < 0 < gain.max())


@pytest.mark.once
def test_the_program_of_the_first_model_is_the_run_of_the_quickstart():
    found = json.loads((ROOT / "docs" / "results" / "first_model.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(found["program"], measured_values()["few.keras_reg"], atol=1e-4)
