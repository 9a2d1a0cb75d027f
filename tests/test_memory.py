"""What is free: of the machine, and of a container with a limit."""

import pytest

from rltrain import memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:       9000 kB\nMemAvailable:   8000 kB\nHugePages_Total:   0\n")
    return tmp_path


def limit(system, most):
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


def test_where_the_system_does_not_tell_it_is_all_that_there_is(system):
    (system / "meminfo").unlink()
    assert memory.available_bytes() > 2**28
