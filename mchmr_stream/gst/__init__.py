"""What the GStreamer element needs beside the pipeline. `plugins/` is the folder for GST_PLUGIN_PATH."""
