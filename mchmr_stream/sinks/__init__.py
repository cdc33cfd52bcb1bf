"""Where finished scenes go: files (overlay, report, Rerun) and live outputs (JSON, MQTT, OSC, recordings)."""
