"""Shared by the tests of tuning."""

import pytest


@pytest.fixture
def bench(tmp_path):
    """Where studies are opened and searched in."""
    pytest.importorskip("optuna", reason="optuna is not installed")
    from conftest_tuning import Bench

    return Bench(tmp_path)
