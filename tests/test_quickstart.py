"""The quickstart on each kind of data that it takes: it runs, and writes its table and its picture."""

import importlib
import json

import numpy as np
import pytest
from harness import BACKEND, ROOT, digits


@pytest.fixture
def quickstart(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("quickstart")


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


@pytest.mark.parametrize("make", [lambda folder: None, as_npz, as_folders], ids=["digits", "npz", "folder"])
def test_quickstart(quickstart, make, tmp_path, capsys):
    if make in (as_npz, as_folders) and BACKEND != "torch":
        pytest.skip("what reads the data has no backend, and each size would be compiled")
    runs = quickstart.main(make(tmp_path), labeled=30, seeds=1, epochs=1, out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert "plain" in printed and "keras_reg" in printed and "±" in printed
    assert [run["run"] for run in runs] == ["plain", "keras_reg"]
    assert json.loads((tmp_path / "out" / "quickstart.json").read_text()) == json.loads(json.dumps(runs))
    assert (tmp_path / "out" / "quickstart.png").stat().st_size > 10_000


@pytest.mark.once
def test_the_same_seed_labels_the_same_images_and_as_many_of_each_class(quickstart):
    load = quickstart.load
    one, two, other = load(None, 200, 3), load(None, 200, 3), load(None, 200, 4)
    np.testing.assert_array_equal(one.x_train, two.x_train)
    assert (np.bincount(one.y_train) == 20).all() and len(one.x_val) == 1597
    assert len(one.x_train) != len(other.x_train) or (one.x_train != other.x_train).any()
    both = np.concatenate([one.x_train, one.x_val]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == len(np.unique(digits()[0].reshape(1797, -1), axis=0))


@pytest.mark.once
@pytest.mark.parametrize("data", ["images.csv", "nowhere"])
def test_other_data_are_refused(quickstart, data):
    with pytest.raises(ValueError, match="Received: data="):
        quickstart.main(data)


def test_the_first_model(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    found = importlib.import_module("first_model").main(
        ["--seeds", "0", "--epochs", "1", "--json", str(tmp_path / "found.json")]
    )
    assert json.loads((tmp_path / "found.json").read_text())["program"] == list(found["program"])
    assert "plain" in capsys.readouterr().out


def stated(values, digits):
    return f"{100 * np.mean(values):.{digits}f} ± {100 * np.std(values, ddof=1):.{digits}f} %"


@pytest.mark.once
@pytest.mark.parametrize(
    ("results", "digits", "pages"),
    [
        ("quickstart", 2, ["README.md", "docs/index.md", "docs/methods/pipeline.md", "docs/methods/random_erasing.md"]),
        ("quickstart", 2, ["docs/methods/cut_mix.md", "docs/methods/label_smoothing_crossentropy.md"]),
        ("first_model", 1, ["docs/start.md"]),
    ],
)
def test_pages_state_what_the_programs_printed(results, digits, pages):
    """To renew them: `make quickstart` and `examples/first_model.py`, whose results are in docs/results."""
    found = json.loads((ROOT / "docs" / "results" / f"{results}.json").read_text(encoding="utf-8"))
    for page in pages:
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for run in ({"plain", "keras_reg", "program"}) & set(found):
            assert stated(found[run], digits) in text, f"{page}: {run}"
