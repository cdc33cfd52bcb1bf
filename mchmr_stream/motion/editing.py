"""Corrections of identities in a finished STEM.npz: merge, split, rename, select.

The bodies in the rows stay as they are; only `track_id` and the selection of rows change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mchmr_stream.errors import UsageError
from mchmr_stream.motion.motion import Motion, Track, doubts_s

LARGEST_ID = 2**31 - 1
"""Other programs store identities in 32 bits."""


@dataclass(frozen=True)
class TrackSummary:
    """Summary of one person, for a list."""

    track_id: int
    first_s: float
    last_s: float
    rows: int
    missing_frames: int
    """Processed frames between the first and the last in which the person has no row"""
    interpolated_rows: int
    confidence: float
    """Mean"""
    distance_m: float
    """Median, of the pelvis from the camera"""
    place_px: tuple[float, float]
    """Middle of the box in the person's first frame"""
    doubts_s: tuple[float, ...]
    """Times at which the track may have changed over to another person"""


def summaries(motion: Motion) -> list[TrackSummary]:
    """Summarise all tracks.

    Args:
        motion: The content of a file.

    Returns:
        One summary per track, in order of first appearance.
    """
    return [_summary(motion, track) for track in motion.tracks.values()]


def _summary(motion: Motion, track: Track) -> TrackSummary:
    spanned = (motion.frames >= track.frame[0]) & (motion.frames <= track.frame[-1])
    left, top, right, bottom = track.box_xyxy_px[0].tolist()
    return TrackSummary(
        track_id=track.track_id,
        first_s=float(track.time_s[0]),
        last_s=float(track.time_s[-1]),
        rows=len(track),
        missing_frames=int(spanned.sum()) - len(track),
        interpolated_rows=int(track.interpolated.sum()),
        confidence=float(track.confidence.mean()),
        distance_m=float(np.median(np.linalg.norm(track.joints_m[:, 0], axis=-1))),
        place_px=((left + right) / 2, (top + bottom) / 2),
        doubts_s=tuple(doubts_s(track.time_s[track.identity_doubt].tolist())),
    )


def merge(motion: Motion, into: int, other: int) -> Motion:
    """Merge two tracks of one person.

    Args:
        motion: The content of a file.
        into: The identity that stays.
        other: The identity that is given up.

    Returns:
        The motion with one track fewer.

    Raises:
        UsageError: Both tracks have a row in the same frame, or one does not exist.
    """
    first, second = _track(motion, into), _track(motion, other)
    if into == other:
        raise UsageError(f"person {into} cannot be merged with themselves")
    both, at, _ = np.intersect1d(first.frame, second.frame, return_indices=True)
    if len(both):
        raise UsageError(
            f"people {into} and {other} are both there in {len(both)} frames, the first at {first.time_s[at[0]]:.3f} s; "
            "split one of them before, and merge only what belongs together"
        )
    order = np.argsort(np.concatenate([first.frame, second.frame]), kind="stable")
    return _with(motion, {**motion.tracks, into: first.followed_by(second).only(order)}, without=[other])


def split(motion: Motion, identity: int, time_s: float) -> tuple[Motion, int]:
    """Split a track in two.

    Args:
        motion: The content of a file.
        identity: The track.
        time_s: First time of the new track.

    Returns:
        The motion, and the new, unused identity of the rows from `time_s` on.

    Raises:
        UsageError: One of the two tracks would be empty.
    """
    track = _track(motion, identity)
    later = track.time_s >= time_s
    if later.all() or not later.any():
        raise UsageError(
            f"person {identity} is there from {track.time_s[0]:.3f} to {track.time_s[-1]:.3f} s, expected a time between to split at, "
            f"got {time_s:g}"
        )
    new = max(motion.tracks) + 1
    if new > LARGEST_ID:
        raise UsageError(f"there is no number above {LARGEST_ID} for the new person; rename that one before")
    return _with(motion, {**motion.tracks, identity: track.only(~later), new: dataclasses.replace(track.only(later), track_id=new)}), new


def rename(motion: Motion, identity: int, to: int) -> Motion:
    """Change a track's identity.

    Args:
        motion: The content of a file.
        identity: The track.
        to: The new identity.

    Returns:
        The motion with the new identity.

    Raises:
        UsageError: Another track has the new identity, or it is out of range.
    """
    track = _track(motion, identity)
    if not 1 <= to <= LARGEST_ID:
        raise UsageError(f"the new number of person {identity} is {to}, expected 1 to {LARGEST_ID}")
    if to in motion.tracks:
        raise UsageError(f"person {identity} cannot become {to}: there is a person {to} already; merge them, or rename that one before")
    return _with(motion, {**motion.tracks, to: dataclasses.replace(track, track_id=to)}, without=[identity])


def select(motion: Motion, identities: Sequence[int]) -> Motion:
    """Keep only some tracks. All frames stay, also those without people.

    Args:
        motion: The content of a file.
        identities: The tracks to keep.

    Returns:
        The motion with these tracks.

    Raises:
        UsageError: A track does not exist.
    """
    kept = {identity: _track(motion, identity) for identity in identities}
    return _with(motion, kept)


def _track(motion: Motion, identity: int) -> Track:
    if identity not in motion.tracks:
        raise UsageError(f"person {identity} is not in the file; there: {', '.join(map(str, motion.tracks)) or 'nobody'}")
    return motion.tracks[identity]


def _with(motion: Motion, tracks: dict[int, Track], without: Sequence[int] = ()) -> Motion:
    left = [track for identity, track in tracks.items() if identity not in without]
    left.sort(key=lambda track: (track.frame[0], track.track_id))
    return dataclasses.replace(motion, tracks={track.track_id: track for track in left})
