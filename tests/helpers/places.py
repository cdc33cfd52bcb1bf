"""Where things are in the checkout, for tests at any depth."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
TESTS = HELPERS.parent
DATA = TESTS / "data"
ROOT = TESTS.parent
