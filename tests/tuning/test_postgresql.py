"""A study in a real PostgreSQL server, started here on the loopback address, that is restarted while it is used."""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="Optuna is not installed")

from pretending import GRID, SEARCH, Pretender, at_once
from processes import LIMIT

PASSWORD = "Pg-s3cret"


def binaries():
    """The folder of PostgreSQL's programs; None where they are not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server of its own, with a password, as another user where this is root, as which it does not run."""

    def __init__(self, folder):
        self.bin, self.folder, self.port = binaries(), folder, free_port()
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        (folder / "password").write_text(PASSWORD)
        if self.user:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        self.call(
            "initdb", "-D", folder / "data", "-U", "me", "-A", "scram-sha-256", "--pwfile", folder / "password", "-N"
        )
        self.url = f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def call(self, program, *arguments):
        done = subprocess.run(
            [*self.user, str(self.bin / program), *map(str, arguments)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", timeout=120,
        )  # fmt: skip
        log = self.folder / "log"
        assert done.returncode == 0, f"{program} failed:\n{log.read_text() if log.exists() else ''}"

    def control(self, what, *arguments):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self.call(
            "pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", "-o", options, what, *arguments
        )


@pytest.fixture(scope="module")
def server():
    if binaries() is None:
        pytest.skip("PostgreSQL's server is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="rltrain-postgresql-", dir="/tmp"))  # another user must reach it
    server = Server(folder)
    server.control("start")
    yield server
    server.control("stop", "-m", "immediate")
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_study_survives_five_restarts_of_its_server_with_three_at_work(bench, server):
    processes = multiprocessing.get_context("fork")
    at_work, missed = processes.Barrier(4), processes.Semaphore(0)

    class Waiting(Pretender):
        runs = 0

        def _train(self, *arguments):
            for index, event in enumerate(super()._train(*arguments)):
                if index == 0 and self.runs in range(0, 20, 4):  # in the midst of every other trial, five times
                    at_work.wait(LIMIT)
                    at_work.wait(LIMIT)  # and the server is away
                yield event
            self.runs += 1

    def restarts():
        for _ in range(5):
            at_work.wait(LIMIT)
            server.control("stop", "-m", "immediate")
            at_work.wait(LIMIT)
            assert all(missed.acquire(timeout=LIMIT) for _ in range(3))
            server.control("start")

    def search():
        study = bench.open(SEARCH, "tune.trials=30", url=server.url)
        study.warn = lambda text: missed.release()
        bench.search(study, Waiting())

    at_once(search, search, search, restarts)
    study = bench.open(SEARCH, "tune.trials=30", url=server.url)
    finished = bench.search(study)
    assert [trial.state.name for trial in finished] == ["COMPLETE"] * 30
    seeds = [path for path in bench.folder.rglob("seed-*") if path.is_dir()]
    assert len(seeds) == 60
    assert all(len((seed / "metrics.jsonl").read_text().splitlines()) == 4 for seed in seeds)  # no step was taken twice
    assert PASSWORD not in json.dumps([trial.user_attrs for trial in finished]) + study.store.shown
    for path in bench.folder.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


FEW = ("tune.trials=4", "tune.seeds_per_trial=1", "train.total_steps=100")


def test_two_that_begin_at_once_share_a_new_database_and_a_wrong_password_is_told_without_it(bench, server):
    from rltrain.tuning.storage import StorageError

    at_once(*[lambda: bench.search(bench.open(GRID, *FEW, name="grid", url=server.url))] * 2)
    trials = bench.open(GRID, *FEW, name="grid", url=server.url).trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert {trial.user_attrs["point"] for trial in trials} == set(range(4))
    with pytest.raises(StorageError, match="password authentication failed") as caught:
        bench.open(url=server.url.replace(PASSWORD, "wr0ng-s3cret"))
    assert "wr0ng-s3cret" not in str(caught.value)


@pytest.mark.slow
def test_a_grid_has_every_point_once_with_three_at_work(bench, server):
    at_once(*[lambda: bench.search(bench.open(GRID, name="whole", url=server.url))] * 3)
    trials = bench.open(GRID, name="whole", url=server.url).trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    assert {trial.user_attrs["point"] for trial in trials} == set(range(12))
