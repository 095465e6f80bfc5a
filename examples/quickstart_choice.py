"""Settings of the quickstart, compared on seeds and splits other than those that are reported.

python examples/quickstart.py --choose --out docs/results
"""

import json

import keras
from quickstart_training import PARTS, Task, load, summary, train

SEEDS = (10, 11, 12)
TASKS = {"wrong": Task(800, 0.3, 40, 1), "few": Task(100, 0.0, 100, 5)}
RATES = [{"learning_rate": rate, "decay": decay} for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2) for decay in (False, True)]
FAST = {"learning_rate": 3e-3, "decay": True}
# The recipe, then with other strengths.
STRENGTHS = [
    {"rate": 0.5, **FAST},
    {"rate": 1.0, **FAST},
    {"rate": 0.5, "learning_rate": 1e-3},
    {"rate": 1.0, "learning_rate": 1e-3},
    {"rate": 0.5, "learning_rate": 3e-3},
    {"rate": 0.5, "smoothing": 0.0, **FAST},
    {"rate": 0.5, "smoothing": 0.2, **FAST},
]
SETTINGS = [("keras_reg", PARTS, options) for options in STRENGTHS] + [("plain", (), options) for options in RATES]


def choose(path, smoke=False):
    """Trains with each setting, saves each run, and makes none again that the file has."""
    seeds, settings = (SEEDS[:1], SETTINGS[::9]) if smoke else (SEEDS, SETTINGS)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"backend": None, "runs": {}}
    found["backend"] = keras.backend.backend()
    for name, task in TASKS.items():
        task = task._replace(epochs=2, every=1) if smoke else task
        for run, parts, options in settings:
            chosen = [f"{name} {run} {json.dumps(options)} seed {seed}{' smoke' * smoke}" for seed in seeds]
            for seed, key in zip(seeds, chosen, strict=True):
                if key not in found["runs"]:
                    measured = train(load(None, task, seed), task, parts, seed, **options)
                    found["runs"][key] = {"last": measured["test"][-1], "best": max(measured["test"])}
                    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            last, best = ([found["runs"][key][at] for key in chosen] for at in ("last", "best"))
            shown = ", ".join(f"{option}={value}" for option, value in options.items())
            print(f"{name:6} {run:10} {shown:35} last {summary(last)}, best {summary(best)}", flush=True)
    return found["runs"]
