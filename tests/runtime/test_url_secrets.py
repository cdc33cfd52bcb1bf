from mchmr_stream.runtime.url_secrets import scheme_and_host, without_password


def test_password_is_replaced():
    assert without_password("rtsp://user:secret@host:554/cam?x=1") == "rtsp://user:***@host:554/cam?x=1"
    assert without_password("rtsp://user@host/cam") == "rtsp://user@host/cam"


def test_only_scheme_and_host_stay():
    assert scheme_and_host("rtmp://user:secret@host:1935/live/stream-key?token=1") == "rtmp://host:1935/..."
