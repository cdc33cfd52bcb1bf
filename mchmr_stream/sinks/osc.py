"""Live scenes as OSC messages over UDP, for game engines and stage software. docs/live.md lists the addresses."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scipy.spatial.transform import Rotation

from mchmr_stream.datatypes import JOINT_NAMES, Moment
from mchmr_stream.errors import MissingPart, UsageError
from mchmr_stream.motion.output_paths import plain_name
from mchmr_stream.runtime.host_port import HostPort

if TYPE_CHECKING:
    from pythonosc.osc_bundle import OscBundle
    from pythonosc.osc_message import OscMessage

log = logging.getLogger(__name__)

MOST_BYTES = 1400
"""Largest datagram: it fits an Ethernet frame, so that none is fragmented."""
_HEAD, _SIZE = 16, 4
"""Bytes of a bundle before its messages, and before each message."""


class OscSink:
    """Send each result as bundles of messages; implements `protocols.LiveSink`. It needs no listener and never blocks on one."""

    def __init__(self, where: str) -> None:
        """Resolve the address.

        Args:
            where: HOST:PORT.

        Raises:
            UsageError: The address does not exist.
            MissingPart: python-osc is not installed.
        """
        try:
            target = HostPort.parse(where.removeprefix("osc://"), "127.0.0.1:9000")
        except ValueError as error:
            raise UsageError(f"--osc: {error}") from error
        if target.port == 0:
            raise UsageError(f"--osc got {where}, expected a port from 1 to 65535")
        try:
            from pythonosc.udp_client import UDPClient
        except ImportError as error:
            raise MissingPart("--osc needs python-osc; install it: python -m pip install python-osc") from error
        try:
            # Resolved once: the client would look the name up for each datagram.
            family, _, _, _, address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise UsageError(f"--osc got {where}: {error.strerror or error}") from error
        self.name = f"osc://{target}"
        self._client = UDPClient(str(address[0]), target.port, family=socket.AddressFamily(family))
        self._present: dict[str, set[int]] = {}
        self._warned = False
        self.lost = 0
        """Datagrams that could not be sent."""

    def write(self, moment: Moment) -> None:
        root = f"/mchmr/{plain_name(moment.source.name)}"
        present = set(moment.scene.bodies.track_id.tolist())
        gone = self._present.get(root, set()) - present
        self._present[root] = present
        for datagram in bundles(messages(root, moment, gone)):
            try:
                self._client.send(datagram)
            except OSError as error:
                self.lost += 1
                if not self._warned:
                    self._warned = True
                    log.warning("%s: a datagram was not sent (%s); going on", self.name, error.strerror or error)

    def close(self) -> None:
        for root, present in self._present.items():
            for datagram in bundles(_gone(root, present)):
                try:
                    self._client.send(datagram)
                except OSError:
                    self.lost += 1
        self._client.close()
        if self.lost:
            log.warning("%s: %d datagrams were not sent", self.name, self.lost)


def messages(root: str, moment: Moment, gone: set[int]) -> Iterator[OscMessage]:
    """Encode one result, the frame's own message first.

    Args:
        root: Prefix of the addresses.
        moment: The result.
        gone: Identities that are absent since the last result.

    Yields:
        The messages.
    """
    scene = moment.scene
    bodies = scene.bodies
    yield message(f"{root}/frame", bodies.frame, float(bodies.time_s), len(scene))
    yield from _gone(root, gone)
    rotations = bodies.rotations
    quaternions = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat(canonical=True).reshape(*rotations.shape[:2], 4)
    for row, identity in enumerate(bodies.track_id.tolist()):
        person = f"{root}/person/{identity}"
        yield message(f"{person}/box", *bodies.boxes_xyxy_px[row].tolist())
        yield message(f"{person}/confidence", float(bodies.confidence[row]))
        for name, joint_m, quaternion in zip(JOINT_NAMES, scene.joints_m[row].tolist(), quaternions[row].tolist(), strict=True):
            yield message(f"{person}/joint/{name}", *joint_m)
            yield message(f"{person}/rotation/{name}", *quaternion)


def _gone(root: str, identities: set[int]) -> Iterator[OscMessage]:
    for identity in sorted(identities):
        yield message(f"{root}/gone", identity)


def message(address: str, *values: float) -> OscMessage:
    """Build a message.

    Args:
        address: OSC address.
        *values: ints (`i`) and floats (`f`).

    Returns:
        The message.
    """
    from pythonosc.osc_message_builder import OscMessageBuilder

    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value, builder.ARG_TYPE_INT if isinstance(value, int) else builder.ARG_TYPE_FLOAT)
    return builder.build()


def bundles(content: Iterator[OscMessage]) -> Iterator[OscBundle]:
    """Pack messages in order into as few bundles as possible, none larger than `MOST_BYTES`, with the time tag "immediately"."""
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder

    builder, size = OscBundleBuilder(IMMEDIATELY), _HEAD
    for one in content:
        if size > _HEAD and size + _SIZE + one.size > MOST_BYTES:
            yield builder.build()
            builder, size = OscBundleBuilder(IMMEDIATELY), _HEAD
        builder.add_content(one)
        size += _SIZE + one.size
    if size > _HEAD:
        yield builder.build()
