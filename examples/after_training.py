"""What can be done with trained networks: averages, ensembles, several views, dropout in prediction, a temperature.

python examples/after_training.py --backend jax --out docs/results --choose
python examples/after_training.py --backend jax --out docs/results

The first command chooses strengths on two other splits of the data, and the second one measures on three splits. Each
finished run is saved at once, and a run in the file is not repeated. With `--data cifar10`, or an .npz of it, the
program measures on small color images instead of digits.
"""

import argparse
import os
import pathlib
import sys
import time

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import after_training_results as results
import keras
import numpy as np
from after_training_networks import Trainer, to_judge
from after_training_rows import DIGITS, HELD_OUT, IMAGES, MORE, PLAIN, SETTINGS_OF, rows
from effects import SEEDS, SPLITS_TO_CHOOSE
from saved_runs import resume, save

from keras_reg import inference

BATCH = {DIGITS: 1600, IMAGES: 500}  # of predictions


# Measures.


def judged(model, data, batch):
    found = model.evaluate(data.x_test, data.y_test, batch_size=batch, return_dict=True, verbose=0)
    return {"accuracy": found["accuracy"], "nll": found["loss"], "ece": found["expected_calibration_error"]}


def seconds_to_predict(model, images, batch):
    """The median processor time of three predictions, after one in which the model is compiled."""
    times = []
    for _ in range(4):
        start = time.process_time()
        model.predict(images, batch_size=batch, verbose=0)
        times.append(time.process_time() - start)
    return float(np.median(times[1:]))


def run(row, trainer):
    """What one row measures on one split, before and after the temperature is fitted."""
    networks, seconds = trainer.networks(row)
    data, batch = trainer.split, BATCH[trainer.kind]
    model = to_judge(row.make(networks, trainer))
    found = judged(model, data, batch)
    if row.training.name != MORE:
        calibrated = inference.calibrate(model, (data.x_val, data.y_val))
        found["temperature"] = 1 / calibrated.get_layer("temperature").scale
        found |= {f"calibrated {name}": value for name, value in judged(calibrated, data, batch).items()}
    found |= {"train_seconds": seconds, "predict_seconds": seconds_to_predict(model, data.x_test, batch)}
    return {name: round(float(value), 5) for name, value in found.items()}


# All runs.


def measure(plan, seeds, done, path, kind, source=None, epochs=None, rate=None):
    """Measures what is missing in `done`. `plan` is a list of (name of the row, label, row)."""
    for seed in seeds:
        made = {(one["row"], one["label"]) for one in done["runs"] if one["seed"] == seed}
        missing = [(name, label, row) for name, label, row in plan if (name, label) not in made]
        trainer = Trainer(kind, seed, source, rate, epochs) if missing else None
        for name, label, row in missing:
            found = run(row, trainer)
            cost = {"trainings": row.members, "passes": row.passes}
            done["runs"].append({"row": name, "label": label, "seed": seed, **cost, **found})
            save(done, path)
            print(f"seed {seed}  {name}, {label}: {results.line(found)}", flush=True)
        keras.backend.clear_session()


def choose(kind, done, path, source, only):
    """Measures all candidates on other splits, the learning rates of the plain network first."""
    for name, candidates in rows(kind).items():
        if len(candidates) > 1 and (only is None or name in only):
            plan = [(name, label, row) for label, row in candidates.items()]
            measure(plan, SPLITS_TO_CHOOSE, done, path, kind, source, rate=chosen_rate(kind, done))


def chosen_rate(kind, choice):
    candidates = rows(kind)[PLAIN]
    return candidates[results.chosen(choice).get(PLAIN, next(iter(candidates)))].training.rate


def main(data=None, only=None, out="runs", choosing=False, smoke=False):
    kind, folder = IMAGES if data else DIGITS, pathlib.Path(out)
    setting = SETTINGS_OF[kind]
    settings = {"kind": kind, "data": pathlib.Path(data).stem if data else DIGITS, "held_out": HELD_OUT[kind]}
    settings["tested"] = setting.tested - HELD_OUT[kind]
    settings |= {"labeled": setting.labeled, "epochs": setting.epochs, "backend": keras.backend.backend()}
    path = folder / f"after_training_{kind}{'_choice' if choosing else ''}{'_smoke' if smoke else ''}.json"
    if smoke:
        path.unlink(missing_ok=True)
    done = resume(path, settings)
    if choosing:
        choose(kind, done, path, data, only)
        print(results.choice(done))
        return done
    choice = results.load(f"{kind}_choice", folder)
    best = results.chosen(choice)
    plan = [
        (name, label, row)
        for name, candidates in rows(kind).items()
        for label, row in candidates.items()
        if label == best.get(name, next(iter(candidates))) and (only is None or name in only)
    ]
    measure(
        plan, SEEDS[: 1 if smoke else None], done, path, kind, data, 5 if smoke else None, chosen_rate(kind, choice)
    )
    print(results.table(done), results.temperatures(done), sep="\n\n")
    results.draw(done, path.with_suffix(".png"))
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="cifar10, or an .npz with x_train, y_train, x_test, y_test (default: digits)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help='some rows, such as "one network"')
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--choose", action="store_true", dest="choosing", help="compare candidates on other splits")
    parser.add_argument("--out", default="runs", help="folder for the results and the figure (default: runs)")
    parser.add_argument("--smoke", action="store_true", help="five epochs and one seed")
    given = vars(parser.parse_args())
    del given["backend"]  # set above, before Keras was imported
    main(**given)
