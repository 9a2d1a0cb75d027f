"""The Ray engine on real clusters of this machine: nodes that vanish, and what becomes of the runs they had."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from gated import Gate
from processes import LIMIT, alive, rltrain, start, wait
from test_launch import ENDLESS, metrics_of, saved, summary_of

from rltrain.records import Status, find_runs
from rltrain.rundir import is_locked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'rltrain[distributed]'"),
]
RUN = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.1}
exploration: {name: epsilon_greedy, epsilon: 0.2}
train: {total_steps: 12_000, log_every: 100, compile: off}
eval: {every: 500, episodes: 5}
checkpoint: {every: 500}
device: cpu
"""
STORE = 80 << 20
MIDST = 2_250
"""A step before which there are checkpoints."""


def children(pid):
    """Processes below one, nearest first."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    below, todo = [], [pid]
    while todo:
        parent = todo.pop(0)
        new = [child for child, above in found.items() if above == parent]
        below, todo = below + new, todo + new
    return below


def listening(pids):
    """Addresses at which these processes accept connections, as the kernel writes them."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(os.readlink(link))
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


class Cluster:
    """A head without a CPU, and nodes of one CPU each."""

    def __init__(self):
        from ray.cluster_utils import Cluster as Rays

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        self.rays = Rays(initialize_head=True, head_node_args=head)
        self.nodes = []
        for _ in range(2):
            self.add()

    def add(self):
        self.nodes.append(self.rays.add_node(num_cpus=1, object_store_memory=STORE))

    def lose(self, node):
        """As when its plug is pulled: everything on it ends at once, nothing is saved or told."""
        raylet = node.all_processes["raylet"][0].process.pid
        for pid in (raylet, *children(raylet)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.rays.remove_node(node)
        self.nodes.remove(node)

    @property
    def engine(self):
        return "--engine", "ray", "--ray-address", self.rays.address


@pytest.fixture(scope="module")
def cluster():
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    made = Cluster()
    yield made
    made.rays.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Twelve runs, on this machine alone."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "run.yaml").write_text(RUN)
    rltrain("train", folder / "run.yaml", "--seeds", "0-11", "--run-dir", folder / "group", "-q")
    return folder


def sittings(folder):
    return json.loads((folder / "sittings.json").read_text())["sittings"]


def test_every_run_finishes_as_it_would_have_when_nodes_are_lost_three_times(cluster, undisturbed, tmp_path):
    folder, gate = tmp_path / "group", Gate(tmp_path / "gate")
    gated = (*gate.at(MIDST), "--plugin", "gated")
    process = start("train", undisturbed / "run.yaml", *gated, "--seeds", "0-11", "--run-dir", folder, *cluster.engine)
    for _ in range(3):
        cluster.add()  # a third one, so that work goes on
        wait(lambda: len(gate.waiting()) == 3)
        cluster.lose(cluster.nodes[0])
        gate.let_go(*gate.waiting())
    gate.open()
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, out + errors
    assert "12 of 12 seeds finished" in out
    assert out.count("was lost; it goes on elsewhere") >= 3
    runs = find_runs(folder)
    assert [run.status for run in runs] == [Status.FINISHED] * 12
    for run in runs:
        assert metrics_of(run.folder) == metrics_of(undisturbed / "group" / run.folder.name)
    again = [each["from_step"] for run in runs for each in sittings(run.folder)[1:]]
    assert len(again) >= 3
    assert max(again) > 0  # gone on with, not begun again


def test_machines_that_do_not_see_the_folder_have_all_of_it_brought_to_the_driver(cluster, undisturbed, tmp_path):
    """The driver's folder is a file system of its own, which no node has; one of them is lost."""
    group, copy, gate = tmp_path / "hidden" / "group", tmp_path / "copy", Gate(tmp_path / "gate")
    group.parent.mkdir()
    script = f'mount -t tmpfs none {group.parent} && "$@"; code=$?; cp -r {group} {copy}; exit $code'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*alone[:4], "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody have file systems of their own (unshare)")
    before = set(Path("/tmp").glob("rltrain-run-*"))
    gated = (*gate.at(MIDST), "--plugin", "gated")
    command = ("train", undisturbed / "run.yaml", *gated, "--seeds", "0-3", "--run-dir", group, *cluster.engine)
    process = start(*command, "--json", under=alone)
    inside = Path(f"/proc/{process.pid}/root{group}")
    wait(lambda: len(gate.waiting()) == 2 and saved(inside, 0, 1))
    assert all((inside / f"seed-{seed}" / ".lock").exists() for seed in (0, 1))
    assert not group.exists()
    trained_in = set(Path("/tmp").glob("rltrain-run-*")) - before
    assert len(trained_in) == 2
    cluster.add()
    cluster.lose(cluster.nodes[0])
    gate.open()
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, out + errors
    left = set(Path("/tmp").glob("rltrain-run-*")) - before
    assert len(left & trained_in) == len(left) <= 1  # of the node that was lost
    for folder in left:
        shutil.rmtree(folder)
    for run in find_runs(copy):
        there = undisturbed / "group" / run.folder.name
        assert run.status is Status.FINISHED
        assert run.summary["run"] == str(group / run.folder.name)
        assert metrics_of(run.folder) == metrics_of(there)
        names = [sorted(path.name for path in each.glob("checkpoints/*")) for each in (run.folder, there)]
        assert names[0] == names[1]
    assert max(len(sittings(run.folder)) for run in find_runs(copy)) == 2


def test_ctrl_c_saves_everywhere_and_resume_goes_on_as_if_nothing_had_been(cluster, undisturbed, tmp_path):
    folder, gate = tmp_path / "group", Gate(tmp_path / "gate")
    gated = (*gate.at(MIDST), "--plugin", "gated")
    command = ("train", undisturbed / "run.yaml", *gated, "--seeds", "0-2", "--run-dir", folder, *cluster.engine)
    process = start(*command, start_new_session=True)
    wait(lambda: len(gate.waiting()) == 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    out, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, out + errors
    assert "Traceback" not in errors
    assert [row["status"] for row in summary_of(folder)["seeds"]] == ["interrupted", "interrupted", "missing"]
    assert not any(is_locked(folder / f"seed-{seed}") for seed in (0, 1))
    assert not list(folder.glob(".mark-*"))
    gate.open()
    out, _ = rltrain("train", "--resume", folder, "--plugin", "gated", *cluster.engine)
    assert "3 of 3 seeds finished" in out
    for seed in range(3):
        assert metrics_of(folder / f"seed-{seed}") == metrics_of(undisturbed / "group" / f"seed-{seed}")
    assert [each["status"] for each in sittings(folder / "seed-0")] == ["interrupted", "finished"]


def test_runs_end_with_their_driver_and_go_on_from_their_last_checkpoints(cluster, undisturbed, tmp_path):
    folder, gate = tmp_path / "group", Gate(tmp_path / "gate")
    gated = (*gate.at(MIDST), "--plugin", "gated")
    process = start("train", undisturbed / "run.yaml", *gated, "--seeds", "0-1", "--run-dir", folder, *cluster.engine)
    wait(lambda: len(gate.waiting()) == 2)
    process.kill()
    process.communicate(timeout=LIMIT)
    wait(lambda: not any(is_locked(folder / f"seed-{seed}") for seed in (0, 1)))
    assert Status.INTERRUPTED in [run.status for run in find_runs(folder)]
    gate.open()
    rltrain("train", "--resume", folder, "--plugin", "gated")  # with the other engine
    for seed in (0, 1):
        assert metrics_of(folder / f"seed-{seed}") == metrics_of(undisturbed / "group" / f"seed-{seed}")


def test_a_bad_trial_is_called_off_on_its_machines(cluster, tmp_path):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    path, gate = tmp_path / "search.yaml", Gate(tmp_path / "gate")
    waits = gate.at(4_250, below=10)  # the bad ones, when they have shown that they are
    path.write_text(
        RUN
        + """
tune:
  sampler: grid
  pruner: median
  seeds_per_trial: 2
  objective: eval/exact_return
  confirm: {top: 1, seeds: 2}
  search: {env.max_episode_steps: {grid: [100, 99, 98, 97, 96, 95, 3, 2]}}  # so few steps lead nowhere
"""
    )
    out, _ = rltrain("tune", path, *waits, "--plugin", "gated", "--study", "s", *cluster.engine, "--json", cwd=tmp_path)
    summary = json.loads(out.splitlines()[-1])  # Ray may still tell of nodes that were lost before
    assert summary["status"] == "finished"
    assert sum(summary["trials"].values()) == 8
    assert summary["trials"]["pruned"] >= 2
    trials = tmp_path / "runs" / "search" / "tune" / "s"
    runs = [run for trial in trials.glob("trial-*") for run in find_runs(trial)]
    called_off = [run for run in runs if run.status is Status.INTERRUPTED]
    assert called_off
    assert all(0 < run.summary["steps"] < run.total_steps for run in called_off)
    assert [run.status for run in find_runs(trials / "confirm")].count(Status.FINISHED) >= 2


def test_ray_on_this_machine_is_reached_from_nowhere_else_and_leaves_nothing(undisturbed, tmp_path):
    home, folder, gate = tmp_path / "home", tmp_path / "group", Gate(tmp_path / "gate")
    home.mkdir()
    free = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(home)}
    gated = (*gate.at(MIDST), "--plugin", "gated")
    command = ("train", undisturbed / "run.yaml", *gated, "--seeds", "0-1", "--run-dir", folder, "--engine", "ray")
    process = start(*command, "--workers", 2, env=free)
    wait(lambda: len(gate.waiting()) == 2)
    everything = children(process.pid)
    addresses = listening([process.pid, *everything])
    assert len(addresses) > 3
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1
    commands = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in everything)
    (files,) = set(re.findall(r"/tmp/rltrain-ray-\w+", commands))
    gate.open()
    out, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + errors
    assert errors == ""
    wait(lambda: not any(map(alive, everything)))
    assert not list(home.iterdir())
    assert not Path(files).exists()
    for seed in (0, 1):
        assert metrics_of(folder / f"seed-{seed}") == metrics_of(undisturbed / "group" / f"seed-{seed}")


def test_a_driver_that_is_killed_takes_its_ray_with_it(undisturbed, tmp_path):
    folder = tmp_path / "group"
    command = ("train", undisturbed / "run.yaml", ENDLESS, "--seeds", "0-1", "--run-dir", folder, "--engine", "ray")
    process = start(*command, "--workers", 2)
    wait(lambda: saved(folder, 0, 1))
    everything = children(process.pid)
    process.kill()
    process.communicate(timeout=LIMIT)
    wait(lambda: not any(map(alive, everything)), 180)  # its agents look for it now and then
    assert [run.status for run in find_runs(folder)] == [Status.INTERRUPTED] * 2


def test_a_cluster_that_asks_for_no_token_is_refused_unless_that_is_wanted(undisturbed, tmp_path):
    head = """
import sys
from ray.cluster_utils import Cluster
made = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False, object_store_memory=80 << 20))
print(made.address, flush=True)
sys.stdin.read()
made.shutdown()
"""
    free = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    free |= {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", head],
        env=free | {"RAY_AUTH_MODE": "disabled"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = process.stdout.readline().strip()
        folder = tmp_path / "group"
        command = (
            "train", undisturbed / "run.yaml", "train.total_steps=500", "--seeds", "0-1",
            "--run-dir", folder, "--engine", "ray", "--ray-address", address,
        )  # fmt: skip
        refused = start(*command, env=free)
        _, errors = refused.communicate(timeout=LIMIT)
        assert refused.returncode == 2
        assert f"the Ray cluster at {address} asks for no token" in errors
        assert "ray get-auth-token --generate" in errors
        assert len(errors.splitlines()) == 1
        assert not folder.exists()
        wanted = start(*command, "--insecure-ray", env=free)
        out, errors = wanted.communicate(timeout=LIMIT)
        assert wanted.returncode == 0, out + errors
        assert "2 of 2 seeds finished" in out
    finally:
        process.communicate(timeout=LIMIT)


def test_a_cluster_that_asks_for_a_token_which_is_not_here_is_told(cluster, undisturbed, tmp_path):
    free = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(tmp_path)}
    process = start("train", undisturbed / "run.yaml", "--seeds", "0-1", *cluster.engine, cwd=tmp_path, env=free)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert "asks for a token, and the right one is not here" in errors
    assert not (tmp_path / "runs").exists()
