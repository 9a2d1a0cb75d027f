"""What is free: of the machine, and of a container with a limit."""

import pytest

from rltrain import memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "own")
    (tmp_path / "own").write_text("4:cpu,memory:/jobs/7\n1:cpuset:/\n0::/slice/unit\n")
    (tmp_path / "meminfo").write_text("MemTotal:       9000 kB\nMemAvailable:   8000 kB\nHugePages_Total:   0\n")
    return tmp_path


def limit(system, most):
    system.mkdir(parents=True, exist_ok=True)
    (system / "memory.max").write_text(f"{most}\n")
    (system / "memory.current").write_text("3000000\n")
    (system / "memory.stat").write_text("anon 2500000\ninactive_file 400000\n")


def test_without_a_container_it_is_what_the_machine_has(system):
    assert memory.available_bytes() == 8_000 * 1024


def test_a_container_without_a_limit_has_what_the_machine_has(system):
    limit(system, "max")
    assert memory.available_bytes() == 8_000 * 1024


def test_in_a_container_it_is_the_rest_of_its_limit_and_what_files_take_of_it(system):
    limit(system, 5_000_000)
    assert memory.available_bytes() == 5_000_000 - 3_000_000 + 400_000
    limit(system, 1_000_000)
    assert memory.available_bytes() == 0
    limit(system, 10**12)
    assert memory.available_bytes() == 8_000 * 1024


@pytest.mark.parametrize("group", ["slice", "slice/unit"])
def test_the_group_of_a_job_and_those_around_it_count(system, group):
    limit(system, 6_000_000)
    limit(system / group, 5_000_000)
    limit(system / "elsewhere", 4_000_000)
    assert memory.available_bytes() == 5_000_000 - 3_000_000 + 400_000


@pytest.mark.parametrize("group", ["", "jobs", "jobs/7"])
def test_groups_of_version_1_count(system, group):
    folder = system / "memory" / group
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("5000000\n")
    (folder / "memory.usage_in_bytes").write_text("3000000\n")
    (folder / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 400000\n")
    assert memory.available_bytes() == 5_000_000 - 3_000_000 + 400_000


def test_where_the_system_does_not_tell_it_is_all_that_there_is(system):
    (system / "meminfo").unlink()
    (system / "own").unlink()
    assert memory.available_bytes() > 2**28
