"""The examples about callbacks run, and show what they say."""

import importlib.util
import sys

import numpy as np
import pytest
from harness import ROOT, only

# What they show does not depend on the backend, but how long it takes to compile does.
pytestmark = only("torch")

EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(monkeypatch):
    """`example("name")`: the module of examples/name.py."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_smoothing_restores_better_weights_at_equal_patience(example, tmp_path, capsys):
    simulation = example("early_stopping_simulation")
    results = simulation.main(curves=1000, patiences=(10,), out=tmp_path, compare_epochs=False)[10]
    excess = {method: simulation.overall(families)[:, 0] for method, families in results.items()}
    keras_excess = excess.pop("Keras EarlyStopping")
    for method, values in excess.items():
        saved = keras_excess - values
        assert saved.mean() > 3 * saved.std() / np.sqrt(len(saved)), method
    assert (tmp_path / "early_stopping_simulation.png").stat().st_size > 10_000
    assert f"{excess['smoothed, ema'].mean():.4f}" in capsys.readouterr().out


def test_the_random_search_prunes_what_diverges(example, tmp_path, capsys):
    optuna = pytest.importorskip("optuna")
    coarse, fine = example("random_search").main(out=tmp_path, smoke=True)
    pruned = [trial for trial in coarse.trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert 0 < len(pruned) < len(coarse.trials) and len(fine.trials) == 2
    worst_kept = max(trial.params["learning_rate"] for trial in coarse.trials if trial not in pruned)
    assert max(trial.params["learning_rate"] for trial in pruned) > worst_kept
    assert f"{len(pruned)} pruned" in capsys.readouterr().out
    assert (tmp_path / "random_search.png").exists()


def test_gradients_vanish_in_sigmoids_only(example, tmp_path, capsys):
    vanishing = example("vanishing_gradients")
    seen = vanishing.main(out=tmp_path, smoke=True)
    sigmoid, relu = (vanishing.norms(gradients) for gradients, _ in seen.values())
    # A sigmoid passes at most a quarter on, and the matrices here little more than they get: 20 layers, 12 digits.
    assert len(sigmoid) == len(relu) == 21 and sigmoid[0] < 1e-9 * sigmoid[-1]
    assert (np.diff(sigmoid) > 0).all()
    assert max(relu) < 10 * min(relu)
    assert "first layer" in capsys.readouterr().out
    assert (tmp_path / "vanishing_gradients.png").stat().st_size > 10_000
