"""The page on which a live run is watched, and the JSON lines by WebSocket: one small server for both."""
