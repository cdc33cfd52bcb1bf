"""Live scenes as messages to an MQTT broker: a line of JSON per result on a topic per source, and whether this program is there."""

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
from mchmr_stream.sinks.json_lines import moment_line

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

log = logging.getLogger(__name__)

USERNAME, PASSWORD = "MCHMR_MQTT_USERNAME", "MCHMR_MQTT_PASSWORD"
PREFIX = "mchmr"
ONLINE, OFFLINE = "online", "offline"
MOST_ON_THE_WAY = 8
"""Messages given to the client that the broker has not taken yet; a client would hold any number of them."""
PATIENCE_S = 1.0
"""How long a result waits for the broker before it is lost."""


class MqttSink:
    """Publishes to PREFIX/bodies/SOURCE, and `online` or `offline` (retained) to PREFIX/status; implements `protocols.LiveSink`.

    The broker itself says `offline` when this program is gone (last will). The client connects on a thread of its own, and again when the
    connection is lost. `write` may wait `PATIENCE_S`: to be used behind `Unhurried`.
    """

    def __init__(self, where: str, settings: MqttSettings) -> None:
        """`where`: mqtt://HOST[:PORT][/PREFIX], or mqtts:// for TLS. Begins to connect, and waits for nothing.

        Raises UsageError for an address, a password file or a certificate that cannot be used, MissingPart without paho-mqtt.
        """
        self.name, host, port, prefix, encrypted = parse_broker(where)
        self._topic, self._status = f"{prefix}/bodies", f"{prefix}/status"
        self._settings = settings
        self._on_the_way: deque[MQTTMessageInfo] = deque()
        self._connected = threading.Event()
        self._told = False
        self.lost = 0
        """Results that were not taken in time, or whose way broke off."""
        self._client = self._new_client(encrypted)
        self._client.connect_async(host, port, keepalive=15)
        self._client.loop_start()

    def write(self, moment: Moment) -> None:
        if not self._has_room():
            self.lost += 1
            return
        topic, settings = f"{self._topic}/{plain_name(moment.source.name)}", self._settings
        self._on_the_way.append(self._client.publish(topic, moment_line(moment), settings.qos, settings.retain))

    def close(self) -> None:
        """Let what is on its way arrive, for a moment, and sign off."""
        while self._on_the_way and self._arrived(PATIENCE_S):
            pass
        if self._connected.is_set():
            self._on_the_way.append(self._client.publish(self._status, OFFLINE, qos=1, retain=True))
            self._arrived(PATIENCE_S)
        self._client.disconnect()
        self._client.loop_stop()
        if self.lost:
            log.warning("%s: %d results did not arrive there", self.name, self.lost)

    def _has_room(self) -> bool:
        if not self._connected.wait(PATIENCE_S):
            return False
        while self._on_the_way and self._is_done(self._on_the_way[0]):
            self._arrived(0)
        return len(self._on_the_way) < MOST_ON_THE_WAY or self._arrived(PATIENCE_S)

    def _arrived(self, within_s: float) -> bool:
        """Whether the oldest message on its way is off our hands in time."""
        message = self._on_the_way[0]
        try:
            message.wait_for_publish(within_s)
        except (ValueError, RuntimeError):  # its connection broke off
            self.lost += 1
            self._on_the_way.popleft()
            return True
        if not message.is_published():
            return False
        self._on_the_way.popleft()
        return True

    @staticmethod
    def _is_done(message: MQTTMessageInfo) -> bool:
        try:
            return message.is_published()
        except (ValueError, RuntimeError):
            return True

    # ---- the client, and what it tells ------------------------------------------------------------------------------------

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
            self._tell(f"the broker refuses: {reason}; it goes by mqtt.username and mqtt.password_file, or {USERNAME} and {PASSWORD}")
            return
        client.publish(self._status, ONLINE, qos=1, retain=True)
        self._connected.set()
        log.info("%s: connected", self.name)
        self._told = False

    def _on_disconnect(self, _client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._connected.is_set() and reason.is_failure:
            self._tell(f"the connection was lost ({reason})")
        self._connected.clear()

    def _on_connect_fail(self, _client: Client, _userdata: Any) -> None:
        # The client calls this while it handles the exception, and gives no other account of it.
        self._tell(f"cannot be reached ({sys.exc_info()[1]})")

    def _tell(self, what: str) -> None:
        """Said once for each loss; that it is still away is no news."""
        log.log(logging.INFO if self._told else logging.WARNING, "%s: %s; trying again", self.name, what)
        self._told = True


def parse_broker(where: str) -> tuple[str, str, int, str, bool]:
    """Name for messages, host, port, prefix of all topics, and whether by TLS. Raises UsageError."""
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
    return f"{parts.scheme}://{parts.hostname}:{port}", parts.hostname, port, prefix, parts.scheme == "mqtts"
