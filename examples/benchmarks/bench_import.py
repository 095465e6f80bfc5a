"""Seconds that `import keras_reg` adds to `import keras`, in new processes that take turns.

KERAS_BACKEND=jax python examples/benchmarks/bench_import.py [--quick] [--json FILE]
"""

import json
import statistics
import subprocess
import sys

from benchmarking import BACKEND, parse, parser, save, verdict

CODE = """
import json, time
start = time.perf_counter()
import keras
between = time.perf_counter()
{}
end = time.perf_counter()
print(json.dumps([end - start, end - between]))
"""


def once(ours):
    """(seconds of all imports, seconds of the second one)."""
    code = CODE.format("import keras_reg" if ours else "")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main(argv=None, rounds=None):
    given = parse(parser(__doc__), argv)
    rounds = rounds or (3 if given.quick else 15)
    once(True)  # writes the byte code
    pairs = [(once(False), once(True)) for _ in range(rounds)]
    keras_alone, both, added = ([pair[i][j] for pair in pairs] for i, j in ((0, 0), (1, 0), (1, 1)))
    print(f"\nImports on {BACKEND}, seconds{'median':>16}{'least':>10}")
    row = {}
    for name, values in {"import keras": keras_alone, "with keras_reg": both, "keras_reg alone": added}.items():
        row[name] = {"median": statistics.median(values), "least": min(values)}
        print(f"  {name:24}{row[name]['median']:>16.3f}{row[name]['least']:>10.3f}")
    verdict(
        "import keras_reg under 0.1 s",
        [(f"{key} of {rounds}", value, 0.1) for key, value in row["keras_reg alone"].items()],
    )
    save(given.json, "import", [row], given.quick)
    return row


if __name__ == "__main__":
    main()
