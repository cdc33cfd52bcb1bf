"""What GStreamer's loader for Python plugins looks for: it imports every file in GST_PLUGIN_PATH/python."""

from mchmr_stream.gstreamer import element

__gstelementfactory__ = element.FACTORY
