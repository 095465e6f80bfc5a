"""The benchmarks run, on sizes at which their numbers mean nothing, and what they print and draw comes from them."""

import importlib
import json
import types

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT
from matplotlib import pyplot

COMPILED = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}[BACKEND]
TINY = (4, 8, 8, 3)


@pytest.fixture
def bench(monkeypatch):
    """The modules of the benchmarks, as attributes. Other packages are left out: some import for ten seconds."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    monkeypatch.setattr(importlib.import_module("peers"), "HERE", ())
    names = ("benchmarking", "draw", "report", "modes")
    names += tuple(
        f"bench_{name}"
        for name in (
            "layers",
            "costs",
            "tf_data",
            "memory",
            "losses",
            "training",
            "step",
            "parts",
            "scale",
            "gpu",
            "import",
            "bounded",
        )
    )
    return types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def small():
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])


def assert_is_drawn(picture):
    """Large enough to read, in several colours, and not all background."""
    height, width, channels = picture.shape
    colours, counts = np.unique(picture.reshape(-1, channels), axis=0, return_counts=True)
    assert min(height, width) > 200 and len(colours) > 20 and counts.max() < 0.98 * height * width


@pytest.mark.slow
def test_every_benchmark_runs_and_is_reported(bench, tmp_path, monkeypatch, capsys):
    path = tmp_path / "found" / "performance.json"
    quick = ["--quick", "--json", str(path)]
    bench.bench_layers.main(quick, sizes=(TINY,), rows=("CutMix",), modes=(COMPILED,))
    bench.bench_costs.main(quick, rows=("CutMix",))
    assert 0 < bench.bench_tf_data.first_map() < 60
    bench.bench_tf_data.main(quick, sizes=(TINY,), rows=("CutMix",))
    bench.bench_memory.main(quick, shape=TINY, rows=("CutMix",), modes=(COMPILED,))
    bench.bench_losses.main([*quick, "--no-memory", "--repeats", "2"], shapes=[(8, 16)])
    bench.bench_scale.main(quick, batches=(2, 2, 4, 4), sides=(8, 8, 16), classes=(3, 5), layers=("CutMix",))
    monkeypatch.setattr(bench.bench_training, "resnet18", lambda width: small())
    monkeypatch.setattr(bench.bench_training, "FORMS", ("integer",))
    bench.bench_training.main(quick, steps=1, rounds=1, batch_size=4)
    bench.bench_parts.main(quick, steps=1, rounds=1, batch_size=4, parts=("ConfidencePenalty",))
    monkeypatch.setattr(bench.bench_step, "network", small)
    bench.bench_step.main(quick, steps=1, rounds=1, batch_size=4)
    monkeypatch.setattr(bench.bench_import, "once", lambda ours: [1.0, 0.02 * ours, 0.2 * ours])
    bench.bench_import.main(quick)
    printed = capsys.readouterr().out
    assert "does not run" not in printed.replace("CutMix: Keras does not run (xla)", "")
    assert "missed by 100%: keras_reg alone, processor" in printed

    results = json.loads(path.read_text())
    assert set(results) == {
        "layers",
        "costs",
        "tf_data",
        "memory",
        "losses",
        "scale",
        "training",
        "parts",
        "step",
        "import",
    }
    assert all(list(found) == [BACKEND] and found[BACKEND]["rows"] for found in results.values())
    assert {row["who"] for row in results["layers"][BACKEND]["rows"]} == {"keras_reg", "Keras"}
    bench.draw.main([str(path), "--out", str(tmp_path)])
    for name in ("performance", "scale", "users"):
        assert_is_drawn(pyplot.imread(tmp_path / f"{name}.png"))
    pages = "\n".join(path.read_text(encoding="utf-8") for path in bench.report.PAGES)
    page = bench.report.fill(pages, results)
    ours = next(
        row for row in results["layers"][BACKEND]["rows"] if row["layer"] == "CutMix" and row["who"] == "keras_reg"
    )
    assert f"| CutMix | **{ours['ms']:.1f}** ({ours['ms'] / ours['copy']:.1f}); Keras " in page
    assert results["import"][BACKEND]["targets"][0]["cells"] == 4
    assert "| import keras_reg under 0.1 s over import keras | 2 of 4 |" in page
    step = next(row for row in results["step"][BACKEND]["rows"] if row["where"] == "in the step")
    assert f", in the step | {step['step_ms']:.0f} | {step['ratio']:.2f} | {step['processor']:.2f} |" in page
    (part,) = results["parts"][BACKEND]["rows"]
    assert f"| `ConfidencePenalty` | {part['ratio']:.2f} ({part['processor']:.2f}) |" in page
    rate = max(row["rate"] for row in results["tf_data"][BACKEND]["rows"] if row["who"] == "keras_reg")
    assert page.index("- **A training step**") < page.index(f": {rate:.0f} (Keras ") < page.index("- **Memory**")
    assert "Quick mode" in page and bench.report.fill(page, results) == page


@pytest.mark.skipif(BACKEND == "tensorflow", reason="the GPU is measured with JAX and PyTorch")
def test_what_is_measured_on_a_gpu_runs_without_one(bench, monkeypatch, tmp_path):
    found = bench.bench_gpu.layer_tables((TINY, (2, 8, 8, 3)), ("float32", "bfloat16"), (COMPILED,), 0, 1, ("CutMix",))
    assert all(row["copy"] > 0 and row["ms"] > 0 for row in found)
    assert len({(row["size"], row["dtype"]) for row in found if row["who"] == "keras_reg"}) == 4
    monkeypatch.setattr(bench.bench_training, "FORMS", ("integer",))
    assert bench.bench_gpu.waits(small) == {"plain": 0, "augmented": 0}
    monkeypatch.setattr(bench.bench_gpu, "waits", lambda: {"plain": 0, "augmented": 0})
    bench.bench_gpu.main(["--parts", "waits", "--json", str(tmp_path / "gpu.json")])
    saved = json.loads((tmp_path / "gpu.json").read_text())["gpu"][BACKEND]
    assert [(target["cells"], target["missed"]) for target in saved["targets"]] == [(1, [])]


def test_a_target_is_met_only_where_every_cell_meets_it(bench, capsys):
    assert bench.benchmarking.verdict("fast", [("a", 1.0, 1.2), ("b", 1.2, 1.2)])["missed"] == []
    assert " ".join(capsys.readouterr().out.split()) == "met fast: all of 2; closest 1.2 of 1.2 (b)"
    found = bench.benchmarking.verdict("fast", [("a", 1.0, 1.2), ("b", 2.4, 1.2), ("c", 1.8, 1.2)])
    assert found == {"target": "fast", "cells": 3, "missed": [("b", 2.4, 1.2), ("c", 1.8, 1.2)]}
    assert "missed fast: by 2 of 3 2.4 of 1.2, missed by 100%: b 1.8" in " ".join(capsys.readouterr().out.split())


def test_functions_take_turns_and_the_median_counts(bench, monkeypatch, capsys):
    clock, calls = [0.0], []
    monkeypatch.setattr(bench.benchmarking.time, "perf_counter", lambda: clock[0])

    def function(name, times):
        times = iter(times)

        def run():
            calls.append(name)
            clock[0] += next(times)

        return run

    slow_once = function("a", [0.9, 0.9, 0.125, 5, 0.25]), function("b", [0.9, 0.9, 0.5, 0.5, 0.5])
    found = bench.benchmarking.by_turns(dict(zip("ab", slow_once, strict=True)), seconds=0, rounds=3, warm_up=2)
    assert found == {"a": 250, "b": 500}
    assert [sorted(calls[i : i + 2]) for i in range(0, 10, 2)] == [["a", "b"]] * 5
    calls.clear()
    capsys.readouterr()
    always_slow = function("a", [0.5] * 7), function("slow", [99, 6, 6, 8])
    found = bench.benchmarking.by_turns({"a": always_slow[0], ("slow", "jit"): always_slow[1]}, seconds=0, rounds=5)
    assert found == {"a": 500, ("slow", "jit"): 7000}
    assert calls.count("a") == 7 and calls.count("slow") == 4
    assert capsys.readouterr().out == "  slow, jit: 2 turns instead of 5, since a call takes 6.0 s\n"


def test_the_exponent_of_a_series(bench):
    assert bench.bench_scale.exponent([(1, 5), (2, 5), (4, 7), (8, 28)]) == pytest.approx(1.243, abs=1e-3)


def test_calls_and_steps_compile_nothing_after_the_first_of_a_size(bench, monkeypatch):
    """TensorFlow traces a function for the first size and for all others; a step as often as plain Keras' own."""
    monkeypatch.setattr(bench.bench_bounded, "SIDE", 40)
    _, plain = bench.bench_bounded.of_steps(0, (2, 3), plain=True)
    for found, most in (
        (bench.bench_bounded.of_calls(12, (15, 16)), 2),
        (bench.bench_bounded.of_steps(12, (2, 3)), plain["programs"]),
    ):
        before, after = found
        assert after["programs"] == before["programs"] and after["threads"] <= before["threads"]
        assert BACKEND != "tensorflow" or after["programs"] <= most
        assert BACKEND != "torch" or after["programs"] == 0
