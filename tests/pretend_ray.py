"""As much of Ray as the launcher uses, in threads of this process, so that its logic is tested without a cluster."""

import pickle
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for


class RayError(Exception):
    """A machine is gone."""


class RayTaskError(RayError):
    """What ran on a machine raised."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Call:
    def __init__(self, actor, name):
        self.actor, self.name = actor, name

    def remote(self, *arguments):
        return self.actor.submit(self.name, pickle.loads(pickle.dumps(arguments)))  # they travel


class Actor:
    """One object, whose methods run one after another; with `placed` false there is no machine for it."""

    def __init__(self, kind, arguments, placed):
        self.lost, self.placed = False, placed
        self.pool = ThreadPoolExecutor(1)
        self.made = self.pool.submit(kind, *arguments)

    def __getattr__(self, name):
        return Call(self, name)

    def submit(self, name, arguments):
        if not self.placed:
            return Future()
        future = self.pool.submit(lambda: getattr(self.made.result(), name)(*arguments))
        future.actor = self
        return future

    def lose(self):
        """Its machine is gone, and with it the worker there."""
        self.lost = True
        self.made.result()._worker.process.kill()


class Ray:
    """The functions of the module `ray`."""

    class exceptions:  # noqa: N801
        RayError, RayTaskError = RayError, RayTaskError

    def __init__(self, cpus=2, placed=True):
        self.cpus, self.placed, self.actors = cpus, placed, []

    def cluster_resources(self):
        return {"CPU": float(self.cpus)}

    def remote(self, kind):
        ray = self

        class Kind:
            def options(self, **options):
                assert options["num_cpus"] == 1
                return self

            def remote(self, *arguments):
                ray.actors.append(Actor(kind, arguments, ray.placed))
                return ray.actors[-1]

        return Kind()

    def wait(self, refs, timeout=None):
        done = wait_for(refs, timeout, FIRST_COMPLETED).done
        return [ref for ref in refs if ref in done], [ref for ref in refs if ref not in done]

    def get(self, ref):
        if ref.actor.lost:
            raise RayError("the actor is dead")
        try:
            return pickle.loads(pickle.dumps(ref.result()))
        except Exception as error:
            raise RayTaskError(error) from None

    def kill(self, actor):
        actor.pool.shutdown(wait=False, cancel_futures=True)
