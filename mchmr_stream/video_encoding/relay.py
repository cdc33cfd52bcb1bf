"""Relay process: coded video from its standard input to a streaming server, `python -m mchmr_stream.video_encoding.relay`.

PyAV's network output can neither be interrupted nor given a time limit, and holds Python's lock while it connects; a process can be
ended. The address is passed in the environment and not on the command line, where all users of the machine could read the stream key.
"""

from __future__ import annotations

import os
import sys

import av

ADDRESS = "MCHMR_RELAY_TO"
FORMATS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp"}
"""Container by the address's scheme."""
PIPE_FORMAT = "nut"
"""Format of the input: libav's own container, which keeps timestamps as they are."""
_OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}}


def relay(url: str) -> None:
    """Relay until the input ends.

    Args:
        url: Address of the server.

    Raises:
        av.error.FFmpegError: The server is unreachable or disconnects.
    """
    scheme = url.partition("://")[0]
    # Probed with the least data, so that the first picture does not wait for others.
    with (
        av.open("pipe:0", format=PIPE_FORMAT, options={"probesize": "32", "analyzeduration": "0"}) as source,
        av.open(url, "w", format=FORMATS[scheme], options=_OPTIONS.get(scheme, {})) as target,
    ):
        video = source.streams.video[0]
        sent = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.size:  # an empty packet marks the end
                packet.stream = sent
                target.mux_one(packet)


def main() -> int:
    """Run the relay; a failure's reason is one line on standard error, without the address."""
    try:
        relay(os.environ[ADDRESS])
    except (av.error.FFmpegError, OSError) as error:
        print(getattr(error, "strerror", None) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
