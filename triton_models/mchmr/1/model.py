"""What Triton's python backend loads. The model itself is mchmr_stream/serving/python_model.py."""

import os
import sys

# The interpreter in the server is an isolated one: it takes no notice of PYTHONPATH.
sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]

from mchmr_stream.serving.python_model import TritonPythonModel  # noqa: E402, F401
