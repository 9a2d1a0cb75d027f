"""The journal survives whoever writes it: torn at any byte, by the dead or beside the living."""

import json
import os

import pytest

pytest.importorskip("optuna", reason="Optuna is not installed")

from pretending import SEARCH, Pretender

from rltrain.tuning.journal import BadJournal, open_journal


def records(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def journal(bench):
    """A journal of a study with two finished trials."""
    bench.search(bench.open(SEARCH, "tune.trials=2"))
    return bench.folder / "tune" / "studies.journal"


def test_a_journal_torn_at_any_byte_of_its_last_record_loses_that_record_alone(journal, tmp_path):
    whole = journal.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    assert len(whole) - start > 50
    for cut in range(start, len(whole) + 1):
        path = tmp_path / f"{cut}.journal"
        path.write_bytes(whole[:cut])
        storage = open_journal(path)
        kept = path.read_bytes()
        assert kept == (whole if cut == len(whole) else whole[:start])
        if start < cut < len(whole):
            assert path.with_name(path.name + ".corrupt").read_bytes() == whole[start:cut] + b"\n"
        (study,) = storage.get_all_studies()
        storage.set_study_user_attr(study._study_id, "written", cut)
        assert open_journal(path).get_study_user_attrs(study._study_id)["written"] == cut
        assert len(records(path)) == len(kept.splitlines()) + 1


def test_what_a_dead_process_left_is_cut_by_the_next_that_writes(journal):
    storage = open_journal(journal)
    (study,) = storage.get_all_studies()
    with open(journal, "ab") as file:
        file.write(b'{"op_code": 2, "wor')
    storage.set_study_user_attr(study._study_id, "after", 1)
    assert records(journal)[-1]["user_attr"] == {"after": 1}
    assert open_journal(journal).get_study_user_attrs(study._study_id)["after"] == 1


def test_last_lines_that_are_no_json_are_cut_and_kept_aside(journal):
    before = journal.read_bytes()
    journal.write_bytes(before + b"\0" * 64 + b"\n" + b"\0" * 8)
    open_journal(journal)
    assert journal.read_bytes() == before
    assert b"\0" * 64 in journal.with_name(journal.name + ".corrupt").read_bytes()


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path):
    for name, data in (
        ("config.yaml", b"env: {id: FrozenLake-v1}\n"),
        ("numbers", b"1\n2\n"),
        ("middle", b'{"op_code"\n{}\n'),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadJournal, match=name):
            open_journal(tmp_path / name)
        assert (tmp_path / name).read_bytes() == data


def test_the_lock_of_a_killed_process_is_free_at_once(journal):
    pid = os.fork()
    if pid == 0:
        from rltrain.tuning.journal import HealingLock

        HealingLock(journal).acquire()
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    storage = open_journal(journal)
    assert len(storage.get_all_trials(storage.get_all_studies()[0]._study_id)) == 2


def test_a_study_goes_on_after_its_journal_was_torn(bench):
    launcher = Pretender()
    bench.search(bench.open(), launcher, interrupted=lambda: launcher.steps >= 1_000)
    path = bench.folder / "tune" / "studies.journal"
    path.write_bytes(path.read_bytes()[:-7])
    assert [trial.state.name for trial in bench.search(bench.open())] == ["COMPLETE"] * 8
