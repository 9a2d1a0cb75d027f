"""The command `rltrain` in processes of its own, and what a test may know of them from outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

RLTRAIN = [sys.executable, "-m", "rltrain"]
LIMIT = 100
"""Seconds after which what a test waits for does not come any more. Less than the 120 that a worker has to save."""


def start(*arguments, under=(), env=os.environ, **options):
    """Begin a command, `under` another one; the modules of the tests can be its plugins."""
    places = [str(Path(__file__).parent), *filter(None, [env.get("PYTHONPATH")])]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    command = [*under, *RLTRAIN, *map(str, arguments)]
    return subprocess.Popen(command, env={**env, "PYTHONPATH": os.pathsep.join(places)}, **options)


def rltrain(*arguments, code=0, **options):
    """Do a command; what it wrote on its output, and as errors."""
    process = start(*arguments, **options)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == code, out + errors
    assert "Traceback" not in errors
    return out, errors


def wait(condition, seconds=LIMIT):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pid_of(folder):
    """The process that trains in a folder."""
    return int((folder / ".lock").read_text().split()[1])


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def bytes_read(pid):
    """How much a process has read in all, from whatever there is."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])
