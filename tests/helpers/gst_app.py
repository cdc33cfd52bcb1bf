"""Small GStreamer programs, run by tests/gstreamer/test_gstreamer.py with the Python that GStreamer has: each prints one line of JSON.

python gst_app.py CASE CLIP CONFIG
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import gi
import numpy as np

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GObject, Gst, GstBase, GstVideo  # noqa: E402

from mchmr_stream.config import load_settings  # noqa: E402
from mchmr_stream.gstreamer import element as gstreamer  # noqa: E402
from mchmr_stream.gstreamer.buffer_pixels import Pictures  # noqa: E402
from mchmr_stream.gstreamer.metadata import has_analytics, results  # noqa: E402

WAIT = 60 * Gst.SECOND
ENDS = Gst.MessageType.EOS | Gst.MessageType.ERROR


class ReadingElement(GstBase.BaseTransform):
    """A second element: it only looks at what the first one put on the buffers."""

    __gtype_name__ = "ReadingElement"
    __gstmetadata__ = ("reader", "Filter", "reads the metadata of mchmr", "tests")
    __gsttemplates__ = tuple(
        Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, Gst.Caps.new_any())
        for name, direction in (("sink", Gst.PadDirection.SINK), ("src", Gst.PadDirection.SRC))
    )

    def __init__(self) -> None:
        super().__init__()
        self.set_in_place(True)
        self.seen: list[tuple[int, Any]] = []

    def do_transform_ip(self, buffer: Gst.Buffer) -> Gst.FlowReturn:
        self.seen.append((buffer.pts, results(buffer)))
        return Gst.FlowReturn.OK


def start(line: str) -> Gst.Pipeline:
    pipeline = Gst.parse_launch(line)
    pipeline.set_state(Gst.State.PLAYING)
    return pipeline


def run(line: str) -> tuple[Gst.Pipeline, Gst.Message]:
    """To the end; the pipeline is left to be looked at."""
    pipeline = start(line)
    return pipeline, wait(pipeline)[-1]


def wait(pipeline: Gst.Pipeline) -> list[Gst.Message]:
    """Everything on the bus until the end or an error, which comes last."""
    seen: list[Gst.Message] = []
    while not seen or not seen[-1].type & ENDS:
        message = pipeline.get_bus().timed_pop(WAIT)
        assert message is not None, f"neither an end nor an error came, but {[one.type.first_value_nick for one in seen]}"
        seen.append(message)
    return seen


def error_of(message: Gst.Message) -> str | None:
    return message.parse_error()[0].message if message.type == Gst.MessageType.ERROR else None


def pull_all(sink: Gst.Element) -> list[Gst.Sample]:
    samples = []
    while (sample := sink.emit("try-pull-sample", WAIT)) is not None:
        samples.append(sample)
    return samples


def rgb_of(sample: Gst.Sample) -> np.ndarray:
    return Pictures(GstVideo.VideoInfo.new_from_caps(sample.get_caps())).read(sample.get_buffer())


def source(clip: str) -> str:
    return f"filesrc location={clip} ! decodebin ! videoconvert"


def metadata(clip: str, config: str) -> dict[str, Any]:
    """Two elements one behind the other, a conversion, and a reader; messages on the bus."""
    pipeline = start(
        f"{source(clip)} ! mchmr config={config} messages=true draw=false ! mchmr config={config} unique-id=7 draw=false max-people=1 ! "
        "videoconvert ! video/x-raw,format=I420 ! readingelement name=reader ! appsink name=out wait-on-eos=false sync=false"
    )
    seen = wait(pipeline)
    samples = pull_all(pipeline.get_by_name("out"))
    posted = [m.get_structure() for m in seen if m.type == Gst.MessageType.ELEMENT and m.get_structure().get_name() == "mchmr"]
    outcome = {
        "error": error_of(seen[-1]),
        "read": pipeline.get_by_name("reader").seen,
        "second": [results(sample.get_buffer(), 7) for sample in samples],
        "posted": [(structure.get_value("pts"), json.loads(structure.get_string("json"))) for structure in posted],
    }
    pipeline.set_state(Gst.State.NULL)
    return outcome


def formats(clip: str, config: str) -> dict[str, Any]:
    """The same pictures with and without the element, in every format; 322 pixels make padded rows, 321 odd ones."""
    from mchmr_stream.pipeline import pipeline as flow

    components = flow.build_components(load_settings(config))
    flow.build_components = lambda settings, **own: components  # loaded once for all of them: only to save time
    outcome = {}
    for pixels, widths in (("RGB", [322]), ("RGBA", [322]), ("BGR", [322]), ("NV12", [322, 321])):
        for width in widths:
            sink = "wait-on-eos=false sync=false"
            caps = f"video/x-raw,format={pixels},width={width},height=243,pixel-aspect-ratio=1/1"
            pipeline, message = run(
                f"{source(clip)} ! videocrop right=125 ! videoscale ! {caps} ! tee name=t t. ! queue ! appsink name=before {sink} "
                f"t. ! queue ! mchmr config={config} ! appsink name=after {sink}"
            )
            before = [rgb_of(sample) for sample in pull_all(pipeline.get_by_name("before"))]
            after = pull_all(pipeline.get_by_name("after"))
            changed = [(a != rgb_of(b)).any(-1) for a, b in zip(before, after, strict=True)]
            outside = 0
            for mask, sample in zip(changed, after, strict=True):
                mask = mask.copy()
                for person in results(sample.get_buffer())["people"]:
                    x, y = np.array(person["joints_px"]).T
                    left, top, right, bottom = person["box_xyxy_px"]
                    mask[
                        max(0, int(min(top, y.min())) - 45) : int(max(bottom, y.max())) + 46,
                        max(0, int(min(left, x.min())) - 45) : int(max(right, x.max())) + 46,
                    ] = False
                outside += int(mask.sum())
            outcome[f"{pixels} {width}"] = {
                "error": error_of(message),
                "frames": len(after),
                "caps": after[0].get_caps().to_string(),
                "changed": [int(mask.sum()) for mask in changed],
                "outside": outside,
                "colour": np.median(
                    [rgb_of(sample)[mask] for sample, mask in zip(after, changed, strict=True) if mask.any()][-1], 0
                ).tolist(),
            }
            pipeline.set_state(Gst.State.NULL)
    return outcome


def seek(clip: str, config: str) -> dict[str, Any]:
    """Play, jump back, play to the end."""
    pipeline = start(f"{source(clip)} ! mchmr config={config} ! appsink name=out wait-on-eos=false sync=false max-buffers=1")
    out = pipeline.get_by_name("out")
    first = [results(out.emit("pull-sample").get_buffer()) for _ in range(12)]
    pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE, 400_000_000)
    second = [results(sample.get_buffer()) for sample in pull_all(out)]
    message = pipeline.get_bus().timed_pop_filtered(WAIT, ENDS)
    pipeline.set_state(Gst.State.NULL)
    backwards = start(f"{source(clip)} ! mchmr config={config} ! appsink name=out wait-on-eos=false sync=false max-buffers=1")
    out = backwards.get_by_name("out")
    out.emit("pull-sample")
    rate = Gst.Event.new_seek(
        -1.0, Gst.Format.TIME, Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE, Gst.SeekType.SET, 0, Gst.SeekType.SET, 1_000_000_000
    )
    backwards.send_event(rate)
    reverse = [sample.get_buffer().pts for sample in pull_all(out)]
    backwards.set_state(Gst.State.NULL)
    return {"error": error_of(message), "first": first, "second": second, "reverse": reverse}


def changes(clip: str, config: str) -> dict[str, Any]:
    """Caps and segment change in the middle; events keep their place between the buffers."""
    pipeline = Gst.parse_launch(
        "appsrc name=in format=time handle-segment-change=true ! "
        f"mchmr name=m config={config} ! appsink name=out wait-on-eos=false sync=false"
    )
    m, out = pipeline.get_by_name("m"), pipeline.get_by_name("out")
    order: list[Any] = []

    def note(_: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        if info.type & Gst.PadProbeType.BUFFER:
            order.append(info.get_buffer().pts)
        elif info.get_event().type in (Gst.EventType.CAPS, Gst.EventType.SEGMENT, Gst.EventType.CUSTOM_DOWNSTREAM, Gst.EventType.EOS):
            order.append(info.get_event().type.value_nick)
        return Gst.PadProbeReturn.OK

    m.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM, note)
    pipeline.set_state(Gst.State.PLAYING)
    source_pad = pipeline.get_by_name("in")
    segment = Gst.Segment()
    segment.init(Gst.Format.TIME)
    for number in range(9):
        if number == 3:
            segment.base, segment.start = Gst.SECOND, Gst.SECOND // 10
        size = "width=64,height=48" if number < 6 else "width=48,height=64"
        caps = Gst.Caps.from_string(f"video/x-raw,format=RGB,{size},framerate=10/1")
        buffer = Gst.Buffer.new_wrapped(bytes(64 * 48 * 3))
        buffer.pts, buffer.duration = number * Gst.SECOND // 10, Gst.SECOND // 10
        source_pad.emit("push-sample", Gst.Sample.new(buffer, caps, segment, None))
        if number == 2:
            source_pad.send_event(Gst.Event.new_custom(Gst.EventType.CUSTOM_DOWNSTREAM, Gst.Structure.new_empty("mark")))
    source_pad.emit("end-of-stream")
    sizes = [(results(s.get_buffer())["width"], results(s.get_buffer())["height"]) for s in pull_all(out)]
    pipeline.set_state(Gst.State.NULL)
    return {"order": order, "sizes": sizes}


def live(clip: str, config: str) -> dict[str, Any]:
    """Latency as declared; an application's EOS on a live source; a slow element that a sink calls late."""
    outcome: dict[str, Any] = {}
    source_line = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert"
    for name, settings in (("two-sided", config), ("causal", f"{config}.causal")):
        pipeline = start(f"{source_line} ! mchmr name=m config={settings} ! fakesink sync=true")
        pipeline.get_state(WAIT)
        query = Gst.Query.new_latency()
        assert pipeline.query(query)
        outcome[name] = query.parse_latency()[1] / Gst.SECOND
        pipeline.send_event(Gst.Event.new_eos())
        message = pipeline.get_bus().timed_pop_filtered(WAIT, ENDS)
        outcome[f"{name} end"] = message.type.first_value_nick if message is not None else None
        pipeline.set_state(Gst.State.NULL)

    pipeline = start(
        "videotestsrc num-buffers=40 ! video/x-raw,width=64,height=48,framerate=30/1 ! videoconvert ! "
        f"mchmr name=m config={config} ! appsink name=out wait-on-eos=false"
    )
    m = pipeline.get_by_name("m")
    m.get_static_pad("src").send_event(Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 2.0, Gst.SECOND // 4, Gst.SECOND // 2))
    samples = pull_all(pipeline.get_by_name("out"))
    seen = wait(pipeline)
    outcome["left"] = [sample.get_buffer().pts for sample in samples]
    outcome["qos messages"] = len([message for message in seen if message.type == Gst.MessageType.QOS])
    pipeline.set_state(Gst.State.NULL)
    return outcome


def failures(clip: str, config: str) -> dict[str, Any]:
    """What goes wrong inside arrives on the bus, and nothing is passed on as if it were well."""
    pipeline = Gst.parse_launch(f"{source(clip)} ! mchmr name=m config={config} ! appsink name=out wait-on-eos=false sync=false")
    m = pipeline.get_by_name("m")
    pipeline.set_state(Gst.State.READY)

    class Failing:
        calls = 0

        def detect(self, frames: Any) -> Any:
            Failing.calls += 1
            if Failing.calls == 4:
                raise RuntimeError("the detector broke")
            return inner.detect(frames)

        def close(self) -> None:
            inner.close()

    inner = m._pipeline.components.detector
    m._pipeline = m._pipeline.with_components(detector=Failing())
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(WAIT, ENDS)
    pipeline.set_state(Gst.State.NULL)
    outcome: dict[str, Any] = {"source": message.src.get_name(), "broken": error_of(message), "debug": message.parse_error()[1]}
    outcome["threads"] = [thread.name for thread in threading.enumerate() if thread.name in ("mchmr", "find")]

    for name, properties in (
        ("unknown meta", "meta=everything"),
        ("no config", "config=/nowhere.yaml"),
        ("views", f"config={config} views=9"),
    ):
        pipeline = Gst.parse_launch(f"videotestsrc num-buffers=2 ! videoconvert ! mchmr {properties} ! fakesink")
        state = pipeline.set_state(Gst.State.PLAYING)
        message = pipeline.get_bus().timed_pop_filtered(WAIT, ENDS)
        outcome[name] = (state.value_nick, error_of(message))
        pipeline.set_state(Gst.State.NULL)
    return outcome


def analytics(clip: str, config: str) -> dict[str, Any] | None:
    """The common format of GStreamer 1.24 and newer, read behind a conversion; None where it is older."""
    if not has_analytics():
        return None
    from gi.repository import GLib, GstAnalytics

    sink = "appsink name=out wait-on-eos=false sync=false"
    pipeline, message = run(f"{source(clip)} ! mchmr config={config} ! videoconvert ! video/x-raw,format=I420 ! {sink}")
    buffer = pull_all(pipeline.get_by_name("out"))[-1].get_buffer()
    relations = GstAnalytics.buffer_get_analytics_relation_meta(buffer)
    boxes, tracks = [], []
    for number in range(GstAnalytics.relation_get_length(relations)):
        found, box = relations.get_od_mtd(number)
        if found:
            boxes.append([GLib.quark_to_string(box.get_obj_type()), *box.get_location()[1:5]])
        found, track = relations.get_tracking_mtd(number)
        if found:
            tracks.append(track.get_info().tracking_id)
    outcome = {"error": error_of(message), "boxes": boxes, "tracks": tracks, "people": results(buffer)["people"]}
    pipeline.set_state(Gst.State.NULL)
    return outcome


def square(clip: str, config: str) -> dict[str, Any]:
    """Pixels that are not square are made so by a videoscale in front."""
    wide = "video/x-raw,format=RGB,width=160,height=240,pixel-aspect-ratio=2/1"
    sink = "appsink name=out wait-on-eos=false sync=false"
    pipeline, message = run(f"{source(clip)} ! videoscale ! {wide} ! videoscale ! mchmr config={config} ! {sink}")
    sample = pull_all(pipeline.get_by_name("out"))[0]
    outcome = {"error": error_of(message), "caps": sample.get_caps().to_string(), "width": results(sample.get_buffer())["width"]}
    pipeline.set_state(Gst.State.NULL)
    return outcome


def adjusting(clip: str, config: str) -> dict[str, Any]:
    """Properties that change while it plays."""
    pipeline = start(
        f"{source(clip)} ! mchmr name=m config={config} draw=false ! appsink name=out wait-on-eos=false sync=false max-buffers=1"
    )
    m, out = pipeline.get_by_name("m"), pipeline.get_by_name("out")
    views = []
    inner = m._pipeline.components.estimator.estimate
    m._pipeline.components.estimator.estimate = lambda batch: views.append(batch.crops.shape[1]) or inner(batch)
    out.emit("pull-sample")
    m.set_property("views", 2)
    rest = len(pull_all(out))
    pipeline.set_state(Gst.State.NULL)
    return {"views": views, "frames": rest + 1}


def restarts(clip: str, config: str) -> dict[str, Any]:
    """Stop and restart the element, through NULL and through READY, and end and restart the stream without a stop.

    A branch on the pad `json` needs its caps each time.
    """
    pipeline = Gst.parse_launch(
        "videotestsrc num-buffers=4 ! video/x-raw,width=64,height=48,framerate=10/1 ! videoconvert ! "
        f"mchmr name=m config={config} views=1 ! queue ! fakesink sync=false m.json ! queue ! gdppay ! fakesink sync=false"
    )
    m = pipeline.get_by_name("m")
    said: list[str] = []

    def note(_: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        name = "line" if info.type & Gst.PadProbeType.BUFFER else info.get_event().type.value_nick
        said.append(name)
        return Gst.PadProbeReturn.OK

    m.get_static_pad("json").add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM, note)
    outcome: dict[str, Any] = {}
    for name, between in (("first", Gst.State.NULL), ("from null", Gst.State.READY), ("from ready", Gst.State.NULL)):
        said.clear()
        pipeline.set_state(Gst.State.PLAYING)
        outcome[name] = [error_of(wait(pipeline)[-1]), list(said)]
        pipeline.set_state(between)
    said.clear()
    _end_twice(config, note)
    return {**outcome, "without stopping": list(said)}


def _end_twice(config: str, note: Any) -> None:
    """Two streams, each with its end, through one running element. The ends do not reach the sinks, which would take no second stream."""
    pipeline = Gst.parse_launch(f"mchmr name=m config={config} views=1 ! fakesink async=false m.json ! fakesink async=false")
    m, before = pipeline.get_by_name("m"), Gst.Pad.new("before", Gst.PadDirection.SRC)
    m.get_static_pad("json").add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM, note)
    for pad in m.srcpads:
        pad.get_peer().add_probe(
            Gst.PadProbeType.EVENT_DOWNSTREAM,
            lambda _, info: Gst.PadProbeReturn.DROP if info.get_event().type == Gst.EventType.EOS else Gst.PadProbeReturn.OK,
        )
    pipeline.set_state(Gst.State.PLAYING)
    before.set_active(True)
    before.link(m.get_static_pad("sink"))
    segment = Gst.Segment()
    segment.init(Gst.Format.TIME)
    for stream in (0, 1):
        before.push_event(Gst.Event.new_stream_start(f"stream-{stream}"))
        before.push_event(Gst.Event.new_caps(Gst.Caps.from_string("video/x-raw,format=RGB,width=64,height=48,framerate=10/1")))
        before.push_event(Gst.Event.new_segment(segment))
        for number in (0, 1):
            buffer = Gst.Buffer.new_wrapped(bytes(64 * 48 * 3))
            buffer.pts, buffer.duration = (2 * stream + number) * Gst.SECOND // 10, Gst.SECOND // 10
            before.push(buffer)
        before.push_event(Gst.Event.new_eos())
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    Gst.Element.register(None, *gstreamer.FACTORY)
    GObject.type_register(ReadingElement)
    Gst.Element.register(None, "readingelement", Gst.Rank.NONE, ReadingElement)
    case, clip, config = sys.argv[1:]
    print(json.dumps(globals()[case](clip, config)))
