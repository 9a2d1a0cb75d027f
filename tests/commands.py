"""The command `rltrain` in a process of its own: to its end, or with a signal that it sends itself while it trains.

The moment is a step, and a number of calls of functions after it, so that it does not depend on how fast the machine
is. It is as good as any moment, since only calls change what is on the disk.
"""

import os
import subprocess
import sys


def run(command, *arguments):
    """Run the command to its end, however long it takes."""
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def signalled(number, step, calls=0):
    """The command, to be followed by its arguments, that gets a signal `calls` calls after it has reached a step."""
    return [sys.executable, __file__, str(int(number)), str(step), str(calls)]


def _send(number, step, calls):
    """Have this process, when it trains, send itself the signal."""
    from rltrain import experiment

    left, train = iter(range(calls)), experiment.train

    def count(*_):
        if next(left, None) is None:
            sys.setprofile(None)
            os.kill(os.getpid(), number)

    def listener(progress):
        if progress.steps >= step:
            sys.setprofile(count)  # is told of every call and every return
        return False

    listener.every = step

    def train_with_listener(loop, total_steps, callbacks, **options):
        train(loop, total_steps, [listener, *callbacks], **options)  # first: what is due at the step is still to come

    experiment.train = train_with_listener


if __name__ == "__main__":
    _send(*map(int, sys.argv[1:4]))
    del sys.argv[1:4]
    from rltrain.cli.main import main

    main()
