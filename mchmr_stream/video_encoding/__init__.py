"""Encoding of video and sound: H.264, sound of the source, push to servers, continuation of an earlier overlay."""
