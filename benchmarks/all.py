"""Run all benchmarks that take up to a quarter of an hour, one after the other; then write docs/performance.md.

    python benchmarks/all.py [--validation DIR] [--heavy pose_landmarker_heavy.task] [--set SECTION.NAME=VALUE] [--only NAME ...]

`--validation` is a folder of real views as for `mchmr evaluate real3d`; without it the benchmarks of accuracy are skipped, with a message.
The machine should be otherwise idle. Longer benchmarks (memory.py, estimators/shared.py, triton_overhead.py, triton_faults.py,
tracking.py, live_latency.py) are run separately. Exit code 1 if a script failed; the others still run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def plan(validation: Path | None, heavy: Path | None) -> dict[str, list[str] | None]:
    """Script -> its arguments; None if its input was not given."""
    real = None if validation is None else [str(validation)]
    clip = [] if validation is None else [str(validation / "cam01.mp4"), "--real", str(validation)]
    return {
        "vs_mediapipe": None if real is None else [*real, *(["--heavy", str(heavy)] if heavy is not None else []), "--frames", "100"],
        "views": [*clip, "--frames", "40"] if validation is None or (validation / "cam01.mp4").exists() else None,
        "detectors": None if real is None else [*real, "--sizes", "256", "384", "512", "--frames", "50"],
        "crops": [],
        "decoding": ["--frames", "100"],
        "estimators": ["--people", "1", "8"],
        "crowd": ["--people", "0", "1", "2", "4", "6", "8", "--frames", "30"],
        "length": ["--lengths", "40", "80", "160"],
        "empty": [],
        "overlay": ["--frames", "50"],
        "overlap": ["--frames", "90"],
        "quick": ["--save"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--heavy", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME")
    args = parser.parse_args()
    for path in (args.validation, args.heavy):
        if path is not None and not path.exists():
            raise SystemExit(f"all.py: {path} is not there")
    own = [part for setting in args.overrides for part in ("--set", setting)]
    scripts = plan(args.validation, args.heavy)
    unknown = set(args.only or ()) - set(scripts)
    if unknown:
        raise SystemExit(f"all.py: --only got {' '.join(sorted(unknown))}, expected some of {' '.join(scripts)}")
    failed, begun = [], time.monotonic()
    for name in args.only or scripts:
        arguments = scripts[name]
        if arguments is None:
            print(f"== {name}: left out, it needs --validation with real views", flush=True)
            continue
        print(f"== {name}", flush=True)
        start = time.monotonic()
        # quick.py compares this version with an earlier one: a change is not a failure here.
        code = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *arguments, *own], check=False).returncode
        if code and name != "quick":
            failed.append(name)
        print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)
    page = subprocess.run([sys.executable, str(HERE.parent / "tools/performance_page.py")], check=False)
    print(f"== all: {time.monotonic() - begun:.0f} s{f'; failed: {chr(32).join(failed)}' if failed else ''}")
    return int(bool(failed) or page.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
