"""Makes the notebooks from the scripts beside this file, with their outputs; or runs them as they are.

python examples/notebooks/make.py            # every script, at full size, into its .ipynb
python examples/notebooks/make.py 03 05      # those whose names begin so
python examples/notebooks/make.py --smoke    # runs the .ipynb at smoke size, two at a time, and keeps nothing
"""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import time

import jupytext
import nbclient
import nbformat
from needed_files import needed_files

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def scripts(beginnings=()):
    found = sorted(path for path in HERE.glob("[0-9]*.py"))
    return [path for path in found if not beginnings or path.name.startswith(tuple(beginnings))]


def from_script(path):
    """The notebook of a script, without outputs; its cells have the same names whenever it is made."""
    notebook = jupytext.read(path)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for index, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict({})
        cell.id = hashlib.sha256(f"{path.name} {index}".encode()).hexdigest()[:8]
    return notebook


def run(notebook, script):
    """Runs all cells in an empty folder, as somebody does who has only the notebook and the files that it names."""
    with tempfile.TemporaryDirectory() as folder:
        for path in needed_files(script):
            shutil.copy(path, folder)
        client = nbclient.NotebookClient(
            notebook, timeout=1200, kernel_name=KERNEL["name"], resources={"metadata": {"path": folder}}
        )
        client.execute(env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    return notebook


def without_noise(notebook):
    """Times, and what TensorFlow has to say about itself, are no outputs of the lesson."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_noise(output)]
    return notebook


def is_noise(output):
    return output.get("name") == "stderr" or output.get("text", "").startswith("WARNING:tensorflow:")


def make(path):
    notebook = without_noise(run(from_script(path), path))
    nbformat.write(notebook, path.with_suffix(".ipynb"))


def smoke(path):
    run(nbformat.read(path.with_suffix(".ipynb"), as_version=4), path)


def timed(function, path):
    start = time.perf_counter()
    function(path)
    return f"{path.stem:40} {time.perf_counter() - start:6.1f} s"


def main(beginnings, small):
    if small:
        os.environ["KERAS_REG_SMOKE"] = "1"
    with concurrent.futures.ThreadPoolExecutor(2 if small else 1) as pool:
        runs = [pool.submit(timed, smoke if small else make, path) for path in scripts(beginnings)]
        for done in runs:
            print(done.result(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all where there is none")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    sys.exit(main(given.names, given.smoke))
