"""Second pass of a file: fit again, with the shape of the whole track.

The first pass estimates a track's shape while it runs, so the bodies of its first seconds have an uncertain shape. The second pass reads
the stored measurements, not the pictures.
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
    """Fit, smooth and align as the first pass does, with final shapes.

    Args:
        measured: Measurements of the first pass.
        settings: Those of the first pass.
        body: The body model that is fitted.
        intrinsics: Camera of the picture.

    Yields:
        The bodies of each measured frame, in order, with the identities of the first pass. Nothing with `fit.kind=none`.
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
