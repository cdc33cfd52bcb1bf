"""Write docs/performance.md from benchmarks/results/*.json; the page is generated entirely.

    python tools/performance_page.py [--check]

`--check` writes nothing and exits with 1 if page and results differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "performance.md"
SCHEMA = 1
ORDER = (
    "vs_mediapipe",
    "views",
    "crops",
    "detectors",
    "decoding",
    "estimators",
    "overlap",
    "crowd",
    "length",
    "empty",
    "overlay",
    "quick",
)
"""Other results follow these, by name."""
_HEAD = """# Performance

Written by `tools/performance_page.py` from the files in `benchmarks/results/`, which the scripts in `benchmarks/` write. Ratios are
those of two sides in one round, one right after the other on the same machine; the median over the rounds counts, and all are given.
Frames per second are medians and hold for the machine named. To measure your own: `mchmr bench`.

The figures below are of revision 534f844, which had no keypoints from crops and no fit (today: `keypoints.kind=detector`, `fit.kind=none`,
`crops.views=5`). Those of the state that ships are in the README.
"""


def page(folder: Path = RESULTS) -> str:
    """Return the page's text."""
    results = {}
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        if "question" in content and content.get("schema") == SCHEMA:
            results[path.stem] = content
    names = [name for name in ORDER if name in results] + sorted(set(results) - set(ORDER))
    return "\n".join([_HEAD, *(section(results[name]) for name in names)])


def section(result: dict[str, Any]) -> str:
    """Format the section of one benchmark."""
    machine, versions = result["machine"], result["versions"]
    lines = [f"## {result['question']}", ""]
    if result["about"]:
        lines += [result["about"], ""]
    lines += ["| " + " | ".join(result["columns"]) + " |", "|" + "---|" * len(result["columns"])]
    lines += ["| " + " | ".join(row) + " |" for row in result["rows"]]
    lines.append("")
    shown = [(name, ratio) for name, ratio in result["ratios"].items() if len(set(ratio["rounds"])) > 1]
    if result["name"] != "quick" and shown:
        lines += [
            f"- {name}: **{ratio['median']:.2f}** ({', '.join(f'{value:.2f}' for value in ratio['rounds'])})" for name, ratio in shown
        ]
        lines.append("")
    packages = ", ".join(
        f"{name} {version}" for name, version in versions.items() if name in ("python", "torch", "av", "mediapipe", "openvino")
    )
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}"
    lines += [f"`{result['command']}`; {result['date'][:10]}, {where}; {packages}.", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = page()
    if args.check:
        same = PAGE.exists() and PAGE.read_text() == text
        print(
            "docs/performance.md agrees with benchmarks/results"
            if same
            else "docs/performance.md differs from benchmarks/results: run tools/performance_page.py"
        )
        return int(not same)
    PAGE.write_text(text)
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
