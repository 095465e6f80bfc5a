"""Accuracies of the program in docs/start.md, and of its network without regularization, on 1597 unseen digits.

KERAS_BACKEND=tensorflow python examples/first_model.py [--seeds 0 1 2] [--json docs/results/first_model.json]
"""

import argparse
import json
import os
import pathlib
import re
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "start.md"


def program(seed, epochs):
    """The first code block of the page, with another seed."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    for found, instead in (
        ("set_random_seed(0)", f"set_random_seed({seed})"),
        ("seed=0\n", f"seed={seed}\n"),
        ("epochs=100, verbose=2", f"epochs={epochs}, verbose=0"),
        ("model.fit(", "history = model.fit("),
        ('network.save("digits.keras")\n', ""),
    ):
        assert code.count(found) == 1, found
        code = code.replace(found, instead)
    return code


def accuracies(seed, epochs):
    """Accuracies after the last epoch: of its network without this package, and of the program."""
    made = {}
    exec(program(seed, epochs), made)
    keras.utils.set_random_seed(seed)
    network = made["make_network"]()
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    validation = made["x_val"], made["y_val"]
    plain = network.fit(made["x_train"], made["y_train"], validation_data=validation, epochs=epochs, verbose=0)
    return plain.history["val_accuracy"][-1], made["history"].history["val_accuracy"][-1]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args(argv)
    start, found = time.perf_counter(), []
    for seed in given.seeds:
        found.append(accuracies(seed, given.epochs))
        plain, regularized = (f"{100 * value:.2f} %" for value in found[-1])
        seconds = time.perf_counter() - start
        print(f"seed {seed}: plain {plain}, the program {regularized} ({seconds:.0f} s)", flush=True)
    columns = dict(zip(("plain", "program"), zip(*found, strict=True), strict=True))
    for name, values in columns.items():
        deviation = np.std(values, ddof=len(values) > 1)
        print(f"{name}: {100 * np.mean(values):.1f} ± {100 * deviation:.1f} %")
    if given.json:
        entry = {"backend": keras.backend.backend(), "epochs": given.epochs, "seeds": given.seeds, **columns}
        given.json.write_text(json.dumps(entry, indent=1) + "\n")
    return columns


if __name__ == "__main__":
    main()
