"""Thousands of odd inputs: each is refused by a `ValueError` that names it, or gives what a float64 reference gives.

`python tests/test_odd_inputs.py [name ...]` prints the counts by class and outcome, and what is wrong.
"""

import collections
import sys
import warnings

import odd_arguments
import odd_calls
import odd_models
import pytest
from harness import BACKEND, public_objects

# {name of a class or function: [(function, its arguments)]}
ARGUMENTS = {
    name: [(odd_arguments.try_argument, (name, *trial)) for trial in odd_arguments.trials(name)]
    for name in odd_arguments.targets()
}
AUGMENTATIONS = {
    name: [(odd_calls.try_call, (name, *trial)) for trial in odd_calls.trials(name)] for name in odd_calls.AUGMENTATIONS
}
MODELS = odd_models.all_trials()
FINE = ("refused", "kept", "equal")
EVERY = {"torch": 1, "tensorflow": 2, "jax": 16}[BACKEND]  # which of the calls the tests try
EVERY_ARGUMENT = {"torch": 1, "tensorflow": 4, "jax": 4}[BACKEND]


def sampled(trials, name, every=EVERY):
    """Every k-th, beginning at another one in each class."""
    return trials[sum(map(ord, name)) % every :: every]


def outcomes(trials):
    """[(what was tried, what became of it)]"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [(arguments, function(*arguments)) for function, arguments in trials]


def wrong(trials):
    return [f"{arguments}: {outcome}" for arguments, outcome in outcomes(trials) if outcome not in FINE]


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_odd_arguments(name, tmp_path, monkeypatch):
    """All of them on PyTorch, every 4th elsewhere: most arguments are checked before any backend is asked."""
    monkeypatch.chdir(tmp_path)
    trials = sampled(ARGUMENTS[name], name, EVERY_ARGUMENT)
    faults = wrong(trials)
    assert not faults, f"{len(faults)} of {len(trials)}:\n" + "\n".join(faults[:40])


@pytest.mark.slow
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_odd_calls_of_augmentations(name):
    """All of them on PyTorch, every 2nd on TensorFlow and every 16th on JAX, which compile for each shape and dtype."""
    trials = sampled(AUGMENTATIONS[name], name)
    faults = wrong(trials)
    assert not faults, f"{len(faults)} of {len(trials)}:\n" + "\n".join(faults[:40])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_odd_calls(name):
    """As many as above."""
    trials = sampled(MODELS[name], name)
    faults = wrong(trials)
    assert not faults, f"{len(faults)} of {len(trials)}:\n" + "\n".join(faults[:40])


def test_everything_public_is_tried():
    assert {name.rsplit(".", 1)[1] for name in public_objects()} <= set(ARGUMENTS)
    assert sum(len(trials) for tried in (ARGUMENTS, AUGMENTATIONS, MODELS) for trials in tried.values()) > 10_000


def main(names):
    total = collections.Counter()
    for what, tried in {"arguments": ARGUMENTS, "calls": {**AUGMENTATIONS, **MODELS}}.items():
        for name, trials in tried.items():
            if names and name not in names:
                continue
            found = outcomes(trials)
            counts = collections.Counter(outcome if outcome in FINE else "wrong" for _, outcome in found)
            total += counts
            print(
                f"{name + ', ' + what:48}",
                ", ".join(f"{counts[o]} {o}" for o in (*FINE, "wrong") if counts[o]),
                flush=True,
            )
            print(*(f"    {a}: {outcome}" for a, outcome in found if outcome not in FINE), sep="\n", end="")
    print(f"{'all':48}", ", ".join(f"{count} {outcome}" for outcome, count in total.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
