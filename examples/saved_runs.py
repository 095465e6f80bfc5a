"""Files of results that grow run by run, so that an interrupted program can resume."""

import json


def resume(path, settings):
    """The results of an earlier start at `path`, which must have the same settings."""
    if not path.exists():
        return {"settings": settings, "runs": []}
    done = json.loads(path.read_text(encoding="utf-8"))
    if done["settings"] != settings:
        different = {key: done["settings"].get(key) for key in settings if done["settings"].get(key) != settings[key]}
        raise ValueError(f"{path} has runs with other settings. Choose another --out. Received: settings={different}")
    return done


def save(done, path):
    """Writes one line per run. An interruption leaves the file as it was."""
    runs = ",\n".join(json.dumps(one) for one in done["runs"])
    write(f'{{"settings": {json.dumps(done["settings"])}, "runs": [\n{runs}\n]}}\n', path)


def write(text, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
