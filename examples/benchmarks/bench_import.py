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
def now():
    return [time.perf_counter(), time.process_time()]
start = now()
import keras
between = now()
{}
end = now()
print(json.dumps([end[0] - start[0], end[0] - between[0], end[1] - between[1]]))
"""


def once(ours):
    """Seconds of all imports, of the second one alone, and of the processor for the second one."""
    code = CODE.format("import keras_reg" if ours else "")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main(argv=None, rounds=None):
    given = parse(parser(__doc__), argv)
    rounds = rounds or (2 if given.quick else 9)
    once(True)  # writes the byte code
    plain, ours = zip(*[(once(False), once(True)) for _ in range(rounds)], strict=True)
    columns = {
        "import keras": [times[0] for times in plain],
        "import keras, keras_reg": [times[0] for times in ours],
        "keras_reg alone": [times[1] for times in ours],
        "keras_reg alone, processor": [times[2] for times in ours],
    }
    row = {name: {"median": statistics.median(values), "least": min(values)} for name, values in columns.items()}
    print(f"\n{f'Imports on {BACKEND}, seconds':28}{'median':>10}{'least':>10}")
    for name, values in row.items():
        print(f"  {name:26}{values['median']:>10.3f}{values['least']:>10.3f}")
    cells = [(f"{name}, {key} of {rounds}", row[name][key], 0.1) for name in list(row)[2:] for key in row[name]]
    made = verdict("import keras_reg under 0.1 s over import keras", cells)
    save(given.json, "import", [row], given.quick, [made])
    return row


if __name__ == "__main__":
    main()
