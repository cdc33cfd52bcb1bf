"""Entry point of GStreamer's loader for Python plugins, which imports each file in GST_PLUGIN_PATH/python."""

from mchmr_stream.gstreamer import element

__gstelementfactory__ = element.FACTORY
