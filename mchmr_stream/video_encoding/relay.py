"""A process that passes coded video on from its standard input to a streaming server: `python -m mchmr_stream.video_encoding.relay`.

PyAV's writing to a network can neither be interrupted nor given a time limit, and holds Python's lock while it connects. A process can be
ended. The address comes in the environment, not on the command line, where everyone on the machine could read the key in it.
"""

from __future__ import annotations

import os
import sys

import av

ADDRESS = "MCHMR_RELAY_TO"
FORMATS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp"}
"""By the address's scheme: the container that such servers take."""
PIPE_FORMAT = "nut"
"""What comes in: libav's own container, which keeps every timestamp as it is."""
_OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}}


def relay(url: str) -> None:
    """Until the input ends. Raises av.error.FFmpegError where the server cannot be reached or goes away."""
    scheme = url.partition("://")[0]
    # (probed with the least: the first picture should not wait for others)
    with (
        av.open("pipe:0", format=PIPE_FORMAT, options={"probesize": "32", "analyzeduration": "0"}) as source,
        av.open(url, "w", format=FORMATS[scheme], options=_OPTIONS.get(scheme, {})) as target,
    ):
        video = source.streams.video[0]
        sent = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.size:  # an empty one marks the end
                packet.stream = sent
                target.mux_one(packet)


def main() -> int:
    """The reason of a failure is the one line on standard error, without the address."""
    try:
        relay(os.environ[ADDRESS])
    except (av.error.FFmpegError, OSError) as error:
        print(getattr(error, "strerror", None) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
