"""The example runs, in both of its forms, at smoke size."""

import importlib.util

import pytest
from harness import ROOT


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    spec = importlib.util.spec_from_file_location("transfer_learning", ROOT / "examples" / "transfer_learning.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_half_of_the_classes_and_then_the_others(example, tmp_path, capsys):
    results = example.main(out=tmp_path, only=["warm up, fine-tune"], smoke=True)
    assert [epoch for epoch, _ in results[0]["curve"]] == [1, 2, 3, 4]
    assert (tmp_path / "transfer.png").exists() and "warm up, fine-tune" in capsys.readouterr().out
    name, (x_old, y_old), (x, y), (x_judge, y_judge), classes = example.split(None, 5, seed=1, most=None)
    assert name == "digits" and classes == 5 and len(x) == 25 and sorted(set(y_old)) == [0, 1, 2, 3, 4]
    # Nothing that is judged by was learnt from, and all digits are somewhere.
    assert len(x_old) + len(x) + len(x_judge) == 1797
    assert not {image.tobytes() for image in x} & {image.tobytes() for image in x_judge} and set(y_judge) == set(y)


@pytest.mark.slow
def test_an_application(example, tmp_path):
    arguments = {"application": "MobileNetV2", "weights": None, "only": ["frozen features"]}
    results = example.main(out=tmp_path, smoke=True, **arguments)
    assert len(results) == 1 and (tmp_path / "transfer.json").exists()
