"""Log of a training run: progress.jsonl, and drawn from it progress.png and TensorBoard's event files.

One record per line: `step`, `minutes` of training so far, `learning_rate`, the losses (means over the steps since the last
record), and the errors on test people where a checkpoint measured them ("test ...").
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mchmr_stream.errors import InputError
from mchmr_stream.files.atomic import atomic_file

log = logging.getLogger(__name__)

Record = dict[str, float]
_NOT_LOSSES = ("step", "minutes", "learning_rate", "gradient")


class RunLog:
    """The records of the folder `out`. Records after `from_step` are dropped, because those steps are repeated."""

    def __init__(self, out: Path, from_step: int) -> None:
        self._path, self._picture = out / "progress.jsonl", out / "progress.png"
        self.records = [record for record in read_records(self._path) if record["step"] <= from_step] if from_step else []
        with atomic_file(self._path) as part:
            part.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        self._events = _event_writer(out / "tensorboard", from_step)
        self._can_draw = True

    @property
    def minutes(self) -> float:
        """Training time up to the last record."""
        return self.records[-1]["minutes"] if self.records else 0.0

    def add(self, record: Record) -> None:
        """Append one record."""
        self.records.append(record)
        with self._path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        if self._events is not None:
            for name, value in record.items():
                if name not in ("step", "minutes"):
                    self._events.add_scalar(_tag(name), value, int(record["step"]))

    def draw(self) -> None:
        """Write progress.png; without matplotlib log that once."""
        if self._events is not None:
            self._events.flush()
        if not self._can_draw or not self.records:
            return
        try:
            draw_progress(self.records, self._picture)
        except ImportError:
            self._can_draw = False
            log.warning("matplotlib is not installed: no progress.png is drawn, progress.jsonl holds the numbers")

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def read_records(path: Path) -> list[Record]:
    """Read the records of a progress.jsonl; none if the file does not exist.

    Raises:
        InputError: the file holds something else.
    """
    if not path.is_file():
        return []
    records = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        try:
            record = json.loads(line)
            records.append({name: float(value) for name, value in record.items()} | {"step": int(record["step"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines) - 1:
                break  # the process was interrupted while it wrote this line
            raise InputError(f"{path}, line {number + 1} is no record of a training run ({error}); move the file away") from error
    return records


def draw_progress(records: Sequence[Record], path: Path) -> None:
    """Plot losses, errors on test people and learning rate over steps. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tested = [record for record in records if any(name.startswith("test ") for name in record)]
    losses = [name for name in records[-1] if name not in _NOT_LOSSES and not name.startswith("test ")]
    columns = 3
    rows = -(-(len(losses) + 1 + bool(tested)) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.5 * rows), layout="constrained")
    panels = iter(figure.subplots(rows, columns, squeeze=False).flat)
    if tested:
        panel = next(panels)
        for name in [name for name in tested[-1] if name.startswith("test ")]:
            steps, values = _column(tested, name)
            panel.plot(steps, values, marker=".", label=f"{name.removeprefix('test ')} {values[-1]:.1f}")
        panel.set_title("rendered people of the test split")
        panel.legend(frameon=False, fontsize="small")
    for name in [*losses, "learning_rate"]:
        panel = next(panels)
        steps, values = _column(records, name)
        panel.plot(steps, values, linewidth=1)
        panel.set_title(f"{name.replace('_', ' ')}: {values[-1]:.4g}")
    for panel in panels:
        panel.set_axis_off()
    for panel in figure.axes:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize="small")
        panel.title.set_fontsize("medium")
    figure.supxlabel("step", fontsize="medium")
    with atomic_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)


def _column(records: Sequence[Record], name: str) -> tuple[list[float], list[float]]:
    having = [record for record in records if name in record]
    return [record["step"] for record in having], [record[name] for record in having]


def _event_writer(folder: Path, from_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("tensorboard is not installed: no event files are written")
        return None
    # purge_step hides events that an earlier leg wrote after the checkpoint from which this one resumes.
    return SummaryWriter(str(folder), purge_step=from_step + 1 if from_step else None)


def _tag(name: str) -> str:
    if name.startswith("test "):
        return f"test/{name.removeprefix('test ').replace(' ', '_')}"
    return name if name in _NOT_LOSSES else f"loss/{name}"
