"""`python -m mchmr_stream COMMAND`: the command line where the package is not installed."""

import sys

from mchmr_stream.cli import main

if __name__ == "__main__":
    sys.exit(main())
