"""Finds the files of examples/ that a notebook imports, which must lie beside it or in the folder above."""

import ast
import pathlib

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent


def needed_files(script):
    """Returns the files of examples/ that a script imports, and those that these import in turn."""
    found, waiting = [], [pathlib.Path(script)]
    while waiting:
        for name in imported(waiting.pop()):
            path = EXAMPLES / f"{name}.py"
            if path.is_file() and path not in found:
                found.append(path)
                waiting.append(path)
    return found


def imported(script):
    """The names of the modules that a file imports at once, not in a function."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
