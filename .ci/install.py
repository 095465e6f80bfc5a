"""Runs `pip install` and shows what it downloads, how far it is and how long it has taken, in one line.

python .ci/install.py [arguments of pip install]
"""

import re
import shutil
import subprocess
import sys
import threading
import time

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def shows_bytes():
    """Whether this pip can report the progress of a download to another program."""
    version = subprocess.run([*PIP, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return tuple(map(int, re.findall(r"\d+", version)[:2])) >= (24, 1)


class Status:
    """What pip does now, read from its output."""

    def __init__(self):
        self.text, self.file, self.files, self.lines = "resolving versions", "downloading", 0, []

    def read(self, line):
        if match := re.match(r"Progress (\d+) of (\d+)", line):
            self.text = f"{self.file}, {int(match[1]) / 1e6:.0f} of {int(match[2]) / 1e6:.0f} MB"
            return
        self.lines.append(line)
        if match := re.match(
            r"\s*Downloading (?:\S+/)?(\S+?)(?:-py\S*|-cp\S*|\.tar\.gz|\.whl\S*)(?: \((.+)\))?$", line
        ):
            self.files += 1
            self.file = f"downloading file {self.files}, {match[1]}"
            self.text = f"{self.file} ({match[2]})" if match[2] else self.file
        elif line.startswith("Installing collected packages"):
            self.text = f"unpacking {line.count(',') + 1} packages"

    def follow(self, output):
        for line in output:
            self.read(line.rstrip("\n"))


def install(arguments):
    title = arguments[-1].rpartition("/")[2]
    command = [*PIP, "install", *(["--progress-bar", "raw"] if shows_bytes() else []), *arguments]
    status, start = Status(), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    reader = threading.Thread(target=status.follow, args=(process.stdout,))
    reader.start()
    while reader.is_alive():
        reader.join(0.5)
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1  # a longer line would wrap, and stay when the next one comes
            print("\r\033[K" + f"   {clock(start)}  {title}: {status.text}"[:width], end="", flush=True)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if process.wait():
        print("\n".join(status.lines), file=sys.stderr)
    else:
        print(f"   {clock(start)}  {title}: done", flush=True)
    return process.returncode


def clock(start):
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    return f"{minutes}:{seconds:02}"


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))
