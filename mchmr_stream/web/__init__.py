"""The web page of a live run, and JSON lines by WebSocket: one small server for both."""
