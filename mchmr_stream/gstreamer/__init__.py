"""The GStreamer element `mchmr`. `plugins/` is the folder for GST_PLUGIN_PATH."""
