"""Live scenes as messages to an MQTT broker: one line of JSON per result on a topic per source, and an online status."""

from __future__ import annotations

import logging
import os
import ssl
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mchmr_stream.config import MqttSettings
from mchmr_stream.datatypes import Moment
from mchmr_stream.errors import MissingPart, UsageError
from mchmr_stream.motion.output_paths import plain_name
from mchmr_stream.runtime.backoff import LossLog
from mchmr_stream.runtime.host_port import HostPort
from mchmr_stream.sinks.json_lines import moment_line

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

log = logging.getLogger(__name__)

USERNAME, PASSWORD = "MCHMR_MQTT_USERNAME", "MCHMR_MQTT_PASSWORD"
PREFIX = "mchmr"
ONLINE, OFFLINE = "online", "offline"
MOST_IN_FLIGHT = 8
"""Messages that the client holds until the broker takes them; the client itself has no limit."""
PATIENCE_S = 1.0
"""Longest time that a result waits for the broker before it is dropped."""


class MqttSink:
    """Publish to PREFIX/bodies/SOURCE, and `online` or `offline` (retained) to PREFIX/status; implements `protocols.LiveSink`.

    The broker publishes `offline` when this program disappears (last will). The client connects on its own thread, and reconnects when
    the connection is lost. `write` may block for `PATIENCE_S`: use it behind a `BackgroundSink`.
    """

    def __init__(self, where: str, settings: MqttSettings) -> None:
        """Start to connect, without waiting for the broker.

        Args:
            where: mqtt://HOST[:PORT][/PREFIX], or mqtts:// for TLS.
            settings: The section `mqtt`.

        Raises:
            UsageError: The address, the password file or a certificate is unusable.
            MissingPart: paho-mqtt is not installed.
        """
        self.name, host, port, prefix, encrypted = parse_broker(where)
        self._topic, self._status = f"{prefix}/bodies", f"{prefix}/status"
        self._settings = settings
        self._in_flight: deque[MQTTMessageInfo] = deque()
        self._connected = threading.Event()
        self._losses = LossLog(log)
        self.lost = 0
        """Results that were dropped before the broker took them, or whose connection broke off."""
        self._client = self._new_client(encrypted)
        self._client.connect_async(host, port, keepalive=15)
        self._client.loop_start()

    def write(self, moment: Moment) -> None:
        if not self._has_room():
            self.lost += 1
            return
        topic, settings = f"{self._topic}/{plain_name(moment.source.name)}", self._settings
        self._in_flight.append(self._client.publish(topic, moment_line(moment), settings.qos, settings.retain))

    def close(self) -> None:
        """Wait briefly for messages in flight, then publish `offline` and disconnect."""
        while self._in_flight and self._arrived(PATIENCE_S):
            pass
        if self._connected.is_set():
            self._in_flight.append(self._client.publish(self._status, OFFLINE, qos=1, retain=True))
            self._arrived(PATIENCE_S)
        self._client.disconnect()
        self._client.loop_stop()
        if self.lost:
            log.warning("%s: %d results did not arrive there", self.name, self.lost)

    def _has_room(self) -> bool:
        if not self._connected.wait(PATIENCE_S):
            return False
        while self._in_flight and self._is_done(self._in_flight[0]):
            self._arrived(0)
        return len(self._in_flight) < MOST_IN_FLIGHT or self._arrived(PATIENCE_S)

    def _arrived(self, within_s: float) -> bool:
        """Whether the oldest message in flight is delivered or lost within `within_s`."""
        message = self._in_flight[0]
        try:
            message.wait_for_publish(within_s)
        except (ValueError, RuntimeError):  # its connection broke off
            self.lost += 1
            self._in_flight.popleft()
            return True
        if not message.is_published():
            return False
        self._in_flight.popleft()
        return True

    @staticmethod
    def _is_done(message: MQTTMessageInfo) -> bool:
        try:
            return message.is_published()
        except (ValueError, RuntimeError):
            return True

    # ---- the client and its callbacks ----------------------------------------------------------------------------------------

    def _new_client(self, encrypted: bool) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise MissingPart("--mqtt needs paho-mqtt; install it: python -m pip install paho-mqtt") from error
        settings = self._settings
        client = Client(CallbackAPIVersion.VERSION2, client_id=settings.client_id or "")
        client.will_set(self._status, OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(1, settings.longest_pause_s)
        client.on_connect, client.on_disconnect, client.on_connect_fail = self._on_connect, self._on_disconnect, self._on_connect_fail
        username = settings.username or os.environ.get(USERNAME)
        if username is not None:
            client.username_pw_set(username, self._password())
        if encrypted:
            try:
                authority, certificate, key = (
                    None if path is None else str(path) for path in (settings.ca_file, settings.cert_file, settings.key_file)
                )
                client.tls_set(authority, certificate, key)
            except (OSError, ValueError, ssl.SSLError) as error:
                raise UsageError(f"mqtt.ca_file, cert_file and key_file cannot be used: {error}; expected PEM files") from error
        return client

    def _password(self) -> str | None:
        path = self._settings.password_file
        if path is None:
            return os.environ.get(PASSWORD)
        try:
            return path.read_text().splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise UsageError(f"mqtt.password_file {path} cannot be read, expected a password in its first line") from error

    def _on_connect(self, client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._log_loss(f"the broker refuses: {reason}; it goes by mqtt.username and mqtt.password_file, or {USERNAME} and {PASSWORD}")
            return
        client.publish(self._status, ONLINE, qos=1, retain=True)
        self._connected.set()
        log.info("%s: connected", self.name)
        self._losses.recovered()

    def _on_disconnect(self, _client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._connected.is_set() and reason.is_failure:
            self._log_loss(f"the connection was lost ({reason})")
        self._connected.clear()

    def _on_connect_fail(self, _client: Client, _userdata: Any) -> None:
        # The client calls this while it handles the exception, and passes it in no other way.
        self._log_loss(f"cannot be reached ({sys.exc_info()[1]})")

    def _log_loss(self, what: str) -> None:
        self._losses.lost("%s: %s; trying again", self.name, what)


def parse_broker(where: str) -> tuple[str, str, int, str, bool]:
    """Parse the address of a broker.

    Args:
        where: mqtt://HOST[:PORT][/PREFIX] or mqtts://...

    Returns:
        Name for messages, host, port, prefix of all topics, and whether TLS is used.

    Raises:
        UsageError: It is no such address, or holds a user name.
    """
    expected = "expected mqtt://HOST[:PORT][/PREFIX] or mqtts://"
    parts = urlsplit(where)
    if "@" in parts.netloc:
        raise UsageError(
            f"--mqtt got an address with a user in it, {expected}; mqtt.username and mqtt.password_file, or {USERNAME} and {PASSWORD}, "
            "say who you are"
        )
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--mqtt got {where}, {expected}") from error
    prefix = parts.path.strip("/") or PREFIX
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or set(where) & set("#+?"):
        raise UsageError(f"--mqtt got {where}, {expected}")
    port = port or (8883 if parts.scheme == "mqtts" else 1883)
    return f"{parts.scheme}://{HostPort(parts.hostname, port)}", parts.hostname, port, prefix, parts.scheme == "mqtts"
