"""Outputs of finished scenes: files (overlay, report, Rerun) and live outputs (JSON, MQTT, OSC, recordings)."""
