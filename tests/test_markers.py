"""What tests/conftest.py does with the marker `clock`, and tests/helpers/components.py with components that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from components import INSTALLED

pytest_plugins = ["pytester"]
CONFTEST = Path(__file__).with_name("conftest.py").read_text()


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder of tests with this project's conftest."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers = clock: as in pyproject.toml\n")
    return pytester


def test_tests_of_the_clock_run_last_in_their_file_and_are_retried_once(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import pytest

        calls = []

        @pytest.mark.clock
        def test_clock():
            calls.append("clock")
            assert calls == ["plain", "clock", "clock"]

        def test_plain():
            calls.append("plain")

        @pytest.mark.clock
        def test_never():
            assert False

        def test_plain_failures_are_not_retried():
            assert False
        """
    )
    result = inner.runpytest_inprocess()
    assert result.parseoutcomes() == {"passed": 2, "failed": 2, "rerun": 2}


@pytest.mark.parametrize(
    ("installed", "outcome"),
    [
        ("", {"skipped": 2}),
        ("mosquitto node", {"skipped": 2}),
        ("mosquitto chromium", {"failed": 1, "skipped": 1}),
        ("packages", {"failed": 1, "skipped": 1}),
    ],
)
def test_what_ci_installs_must_be_found(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, installed: str, outcome: dict[str, int]
) -> None:
    monkeypatch.setenv(INSTALLED, installed)
    inner.makepyfile(
        """
        from components import import_or_skip, skip_without

        def test_component():
            skip_without("chromium", "no Chromium here")

        def test_package():
            import_or_skip("no_such_package")
        """
    )
    result = inner.runpytest_inprocess()
    assert result.parseoutcomes() == outcome
    if "chromium" in installed:
        result.stdout.fnmatch_lines([f"CI installs chromium ({INSTALLED}), and this test does not find it: no Chromium here"])
