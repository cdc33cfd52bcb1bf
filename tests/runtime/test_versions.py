import platform

import numpy as np

from mchmr_stream.runtime.versions import machine, package_version, usable_cores, versions


def test_versions_of_what_is_installed_only():
    assert versions(["numpy", "no-such-package"]) == {"python": platform.python_version(), "numpy": np.__version__}
    assert package_version("no-such-package") is None


def test_machine_in_words():
    found = machine()
    assert found["cpu"]
    assert found["cores"] == usable_cores() >= 1
