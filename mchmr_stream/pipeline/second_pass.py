"""A file's second pass: everybody is fitted again with the shape that the whole track shows.

In the first pass a shape is learned on the way, so the bodies of a track's first seconds have one that is hardly known. The second pass
goes over what was measured, not over the pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

from mchmr_stream.body.model import BodyModel
from mchmr_stream.config import Settings
from mchmr_stream.datatypes import Bodies
from mchmr_stream.fitting.measurements_file import MeasuredFile
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.pipeline.factory import build_alignment, build_fitter, build_smoother


def fitted_again(measured: MeasuredFile, settings: Settings, body: BodyModel, intrinsics: Intrinsics) -> Iterator[Bodies]:
    """Fit, smooth and align as the first pass does, with settled shapes.

    Args:
        measured: of the first pass.
        settings: those of the first pass.
        body: the model that is fitted.
        intrinsics: of the picture.

    Yields:
        The bodies of each measured frame, in order, with the identities of the first pass. Nothing where `fit.kind` is none.
    """
    fitter = build_fitter(settings, body, intrinsics, measured.shapes())
    if fitter is None:
        return
    alignment = build_alignment(settings, body, intrinsics)
    smoother = None
    for frames in measured.blocks():
        if smoother is None:
            smoother = build_smoother(settings, picture_wh=frames[0].picture_wh, body=body)
        fitted = fitter.fit(frames)
        if alignment is not None:
            alignment.remember(frames)
        smooth = [ready for bodies in fitted for ready in smoother.push(bodies)]
        yield from smooth if alignment is None else alignment.align(smooth)
    if smoother is not None:
        held_back = smoother.flush()
        yield from held_back if alignment is None else alignment.align(held_back)
