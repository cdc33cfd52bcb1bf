"""Sources of painted pictures, and pipelines that share their networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import media
from people import FPS, HEIGHT, WIDTH, people_pictures

from mchmr_stream.config import settings_from
from mchmr_stream.datatypes import Frame, SourceInfo
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.protocols import Detector

ONE_PERSON = people_pictures(12, [((-0.3, 0.3, 4.0), (0.3, 0.3, 4.0))])


class Pictures:
    """A source that remembers how much was taken from it, and may fail after its last picture."""

    def __init__(self, pictures: Sequence[media.Picture], error: Exception | None = None, fps: float = FPS) -> None:
        self.info = SourceInfo("pictures", WIDTH, HEIGHT, fps, len(pictures))
        self.warnings: list[str] = []
        self.taken = 0
        self.ended = False
        self._pictures, self._error = pictures, error

    def frames(self) -> Iterator[Frame]:
        try:
            for index, rgb in enumerate(self._pictures):
                self.taken += 1
                yield Frame(index, index / FPS, rgb)
            if self._error is not None:
                raise self._error
        finally:
            self.ended = True

    def close(self) -> None:
        """Nothing is open."""


def variant(pipeline: Pipeline, detector: Detector | None = None, /, **changes: dict[str, object]) -> Pipeline:
    """The same networks with other settings or another detector."""
    plain = pipeline.settings.model_dump()
    settings = settings_from({section: {**values, **changes.get(section, {})} for section, values in plain.items()})
    return Pipeline(settings, pipeline.components, detector=detector)
