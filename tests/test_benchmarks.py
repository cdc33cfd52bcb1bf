"""Benchmarks: ratios are those within a round, whatever the machine's speed was in it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


def test_views_are_compared_within_each_round():
    import views

    rounds = [{1: 20.0, 5: 10.0}, {1: 9.0, 5: 3.0}, {1: 100.0, 5: 40.0}]
    errors = {1: {"MPJPE mm": 99.0, "PA-MPJPE mm": 66.0}, 5: {"MPJPE mm": 90.0, "PA-MPJPE mm": 60.0}}
    lines = views.table(rounds, errors).splitlines()
    assert lines[2] == "| 1 | 20.0 | 2.50 (2.00, 3.00) | 99.0 / 66.0 | 1.100 |"
    assert lines[3] == "| 5 | 10.0 | 1.00 (1.00, 1.00) | 90.0 / 60.0 | 1.000 |"
    assert views.table(rounds, {}).splitlines()[2] == "| 1 | 20.0 | 2.50 (2.00, 3.00) |  |  |"
