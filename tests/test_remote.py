"""Runs on other machines, with a Ray that is pretended: nothing is lost with a machine, and a folder comes home whole."""

from concurrent import futures
from contextlib import ExitStack
from types import SimpleNamespace

import grpc
import pytest
from gated import Gate
from pretend_ray import Ray
from test_launch import ENDLESS, TINY, alone, metrics_of

from rltrain import checkpoint, cluster
from rltrain.cli.engine import engine_of
from rltrain.cli.train import train
from rltrain.config.load import load
from rltrain.core import ConfigError
from rltrain.launch import remote
from rltrain.launch.host import Host
from rltrain.launch.job import MAX_LOST, Event, Job, Losses, in_turn
from rltrain.launch.mirror import Mirror, apply
from rltrain.launch.remote import Again, RayLauncher
from rltrain.launch.worker import _reason
from rltrain.records import RunRecord, Status
from rltrain.rundir import is_locked, lock_run


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def jobs(path, folder, seeds, *overrides):
    folder.mkdir()
    config = load(path, list(overrides)).config
    return [Job(config.single(seed), folder / f"seed-{seed}") for seed in seeds]


class Distant(Host):
    """A host that does not see the driver's folder."""

    def greet(self, mark):
        return super().greet(mark)._replace(shared=False)


def test_a_seed_logs_through_ray_what_it_logs_alone(tiny, tmp_path):
    events, work = [], jobs(tiny, tmp_path / "group", (0, 1, 2))
    ray = Ray(cpus=1)
    RayLauncher(ray).run(in_turn(work), events.append)
    assert len(ray.actors) == 1  # one machine took all three
    assert [event.job.config.seed for event in events if event.kind == "ended"] == [0, 1, 2]
    assert metrics_of(work[2].folder) == alone(tiny, tmp_path / "alone", 2)
    assert RunRecord(work[0].folder).summary["run"] == str(work[0].folder)
    assert not list((tmp_path / "group").glob(".mark-*"))


def test_what_a_lost_machine_had_goes_on_elsewhere_from_what_was_brought_to_the_driver(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "Host", Distant)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    total, gate = 8_000, Gate(tmp_path / "gate")
    settings = (f"train.total_steps={total}", "train.compile=off", *gate.at(1_750))
    (job,), ray, events, logged = jobs(tiny, tmp_path / "group", (1,), *settings), Ray(cpus=1), [], []

    def listen(event):
        events.append(event)
        if event.kind == "progress":
            assert is_locked(job.folder) or event.data["step"] == total  # told together with the end
            logged.append((event.data["eval_step"], RunRecord(job.folder).curve("eval/return").steps.tolist()))
            if list(job.folder.glob("checkpoints/step-*")) and len(ray.actors) == 1 and not ray.actors[0].lost:
                ray.actors[0].lose()
                gate.open()

    RayLauncher(ray, plugins=["gated"]).run(in_turn([job]), listen)
    assert len(ray.actors) == 2
    assert [event.kind for event in events if event.kind != "progress"] == ["started", "note", "started", "ended"]
    assert all(step is None or step in steps for step, steps in logged)  # what is judged is here before it is told of
    run = RunRecord(job.folder)
    assert (run.status, run.summary["run"]) == (Status.FINISHED, str(job.folder))
    assert events[-1].data["run"] == str(job.folder)
    assert run.sittings[1]["from_step"] > 0
    assert metrics_of(job.folder) == alone(tiny, tmp_path / "alone", 1, *settings)
    assert checkpoint.find(job.folder / "checkpoints", "last").name == f"step-{total:012}"
    assert not is_locked(job.folder)
    ray.actors[0].made.result()._clean()  # its machine is not really gone
    assert not list(tmp_path.glob("rltrain-run-*"))


def test_a_run_is_called_off_where_it_trains_and_where_there_is_no_machine_for_it(tiny, tmp_path):
    job, later = jobs(tiny, tmp_path / "group", (0, 1), ENDLESS, "train.compile=off")
    events, called_off = [], set()

    def listen(event):
        events.append((event.job.config.seed, event.kind, event.data.get("status")))
        if event.kind == "progress":
            called_off.add(event.job.folder)

    RayLauncher(Ray(cpus=1)).run(in_turn([job]), listen, unwanted=lambda job: job.folder in called_off)
    assert events[-1] == (0, "ended", "interrupted")
    assert RunRecord(job.folder).status is Status.INTERRUPTED
    events.clear()
    RayLauncher(Ray(placed=False)).run(in_turn([later]), listen, interrupted=lambda: bool(events))
    assert events == [(1, "started", None), (1, "ended", "interrupted")]
    assert not later.folder.exists()
    assert not list((tmp_path / "group").glob(".mark-*"))


def test_a_run_that_somebody_else_trains_fails_alone(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "Host", Distant)
    work, ended = jobs(tiny, tmp_path / "group", (0, 1, 2), "train.compile=off"), []

    def listen(event):
        if event.kind in ("ended", "failed"):
            ended.append((event.job.config.seed, event.kind, event.data.get("reason")))

    with ExitStack() as held:
        for job in (work[0], work[2]):  # before there is a machine, and when there is one
            job.folder.mkdir()
            held.enter_context(lock_run(job.folder))
        RayLauncher(Ray(cpus=1)).run(in_turn(work), listen)
    failed, trained, failed_too = ended
    assert (failed[:2], trained, failed_too[:2]) == ((0, "failed"), (1, "ended", None), (2, "failed"))
    assert str(work[0].folder) in failed[2]
    assert str(work[2].folder) in failed_too[2]


def test_a_machine_with_something_else_installed_is_refused_by_name(tiny, tmp_path, monkeypatch):
    class Old(Host):
        def greet(self, mark):
            found = super().greet(mark)
            return found._replace(node="old-1", versions=found.versions | {"numpy": "1.0"})

    monkeypatch.setattr(remote, "Host", Old)
    with pytest.raises(cluster.NoCluster, match=r"machine old-1 has numpy 1\.0 \(here: "):
        RayLauncher(Ray()).run(in_turn(jobs(tiny, tmp_path / "group", (0,))), lambda event: None)


def test_an_error_is_told_in_one_line_also_where_it_says_nothing(monkeypatch):
    assert _reason(ValueError("\n one\ntwo")) == "ValueError: one"
    assert [_reason(ValueError()), _reason(ConfigError("a\nb"))] == ["ValueError", "a"]
    ray = SimpleNamespace(exceptions=SimpleNamespace(AuthenticationError=PermissionError))

    def silent(*arguments, **options):
        raise ConnectionError

    monkeypatch.setattr(cluster, "_init", silent)
    with pytest.raises(cluster.NoCluster, match=r"with the cluster's token: ConnectionError$"):
        cluster._init_there(ray, "host:1")


def test_a_job_is_given_up_when_it_is_lost_too_often_without_a_new_checkpoint(tiny, tmp_path):
    (job,) = jobs(tiny, tmp_path / "group", (0,))
    events, losses = [], Losses()
    again = Again(lambda: None, events.append)
    lost = Event(job, "failed", {"reason": "machine a was lost", "lost": True, "machine": True})
    for _ in range(MAX_LOST):
        again(lost)
        assert again.next_job() is job
        assert losses.again(job)
    again(lost)
    assert again.next_job() is None
    assert [event.kind for event in events] == ["note"] * MAX_LOST + ["failed"]
    assert not events[-1].data.get("lost")
    assert not losses.again(job)
    (job.folder / "checkpoints" / "step-000000000500").mkdir(parents=True)
    assert losses.again(job)
    again(Event(job, "failed", {"reason": "its process was killed", "lost": True}))  # as on one machine
    assert events[-1].data["reason"] == "its process was killed"
    again(lost)
    again.conclude()
    assert (events[-1].kind, events[-1].data["status"]) == ("ended", "interrupted")


def test_a_mirror_brings_what_is_new_and_takes_away_what_is_gone(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    log, settings = there / "metrics.jsonl", there / "sittings.json"
    log.write_bytes(b"one\n")
    settings.write_bytes(b"first")
    (there / ".lock").touch()
    checkpoint.put(there / "checkpoints", "step-000000000001", {"a": b"1", "b": b"2"})
    mirror = Mirror(there)
    apply(here, mirror.changes())
    assert mirror.changes() == ({}, {}, [])
    assert sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()) == [
        "checkpoints/step-000000000001/a",
        "checkpoints/step-000000000001/b",
        "metrics.jsonl",
        "sittings.json",
    ]
    with open(log, "ab") as file:
        file.write(b"two\n")
    with open(settings, "ab") as file:  # longer, and the same file: but only a log is known to keep its beginning
        file.write(b" and more")
    changes = mirror.changes()
    assert changes.files == {"metrics.jsonl": (4, b"two\n"), "sittings.json": (0, b"first and more")}
    apply(here, changes)
    assert (here / "metrics.jsonl").read_bytes() == b"one\ntwo\n"
    checkpoint.put(there / "checkpoints", "step-000000000001", {"a": b"3", "b": b"4"})  # the same step, saved again
    checkpoint.put(there / "checkpoints", "step-000000000002", {"a": b"5", "b": b"6"})
    settings.unlink()
    apply(here, mirror.changes())
    assert not (here / "sittings.json").exists()
    assert (here / "checkpoints" / "step-000000000001" / "a").read_bytes() == b"3"
    apply(there / "again", Mirror(here).changes())
    second = Mirror(there / "again", ["metrics.jsonl", "events.out.tfevents.0", "step-000000000002"])
    assert second.changes().gone == ["events.out.tfevents.0"]


@pytest.mark.parametrize("guarded", [True, False])
def test_a_cluster_is_asked_without_a_token_whether_it_wants_one(guarded):
    def answer(request, context):
        assert not any(name == "authorization" for name, _ in context.invocation_metadata())
        return context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token") if guarded else b""

    handler = grpc.method_handlers_generic_handler(
        "ray.rpc.NodeInfoGcsService", {"CheckAlive": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[handler])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    assert cluster._asks_for_token(address) is guarded
    if not guarded:
        with (
            pytest.raises(ConfigError, match=f"{address} asks for no token: .*--insecure-ray"),
            cluster._joined(address, False),
        ):
            pass
    server.stop(0).wait()
    with pytest.raises(cluster.NoCluster, match=f"no Ray cluster answers at {address}"):
        cluster._asks_for_token(address)


def test_options_that_mean_nothing_together_are_refused_and_ray_is_named_where_it_is_missing(
    tiny, tmp_path, monkeypatch
):
    for given, told in (
        (("local", "auto", False), "--ray-address: goes with --engine ray"),
        (("local", None, True), "--insecure-ray: goes with --engine ray"),
        (("ray", None, True), "--insecure-ray: goes with --ray-address"),
    ):
        with pytest.raises(ConfigError, match=told):
            engine_of(*given)
    with pytest.raises(ConfigError, match="--engine ray: a single run"):
        train([str(tiny)], engine="ray", run_dir=tmp_path / "run")
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'rltrain\[distributed\]'"):
        train([str(tiny)], engine="ray", seeds="0-1", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(cluster.NoCluster, match="no Ray cluster was started on this machine"):
        cluster._found("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379\n")
    assert cluster._found("auto") == "10.0.0.1:6379"
    for wrong in ("somewhere", "ray://a:1", "a:b"):
        with pytest.raises(ConfigError, match="expected HOST:PORT or auto"):
            cluster._found(wrong)
