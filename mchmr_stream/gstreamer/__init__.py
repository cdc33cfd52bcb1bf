"""The GStreamer element `mchmr`. `plugins/` is the folder for GST_PLUGIN_PATH."""

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)  # caps cannot be made before
