"""All settings, typed and described. Unknown names are refused with the nearest known one.

`Settings()` is the default; `load_settings(file, overrides)` reads YAML and `a.b=c` strings. This file does not depend on the pipeline:
`pipeline/factory.py` builds objects from settings.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from mchmr_stream.errors import UsageError
from mchmr_stream.files.shipped_configs import find_config
from mchmr_stream.runtime.host_port import HostPort


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def _host_and_port(text: str, example: str) -> str:
    HostPort.parse(text, example)
    return text


class SourceSettings(_Section):
    """The input."""

    start_s: float | None = Field(None, ge=0, description="skip everything before this time, seconds from the first frame")
    end_s: float | None = Field(None, ge=0, description="stop at this time, seconds from the first frame")
    every: int = Field(1, ge=1, le=1_000_000, description="use each n-th frame")
    stream: int = Field(0, ge=0, le=1000, description="which video stream of the file, from 0")
    hwaccel: str | None = Field(
        None, description="decode videos on this hardware (cuda, vaapi, videotoolbox, ...) where it can; null: on the CPU"
    )
    pictures: Literal["auto", "clip", "stills"] = Field(
        "auto",
        description="folders of pictures, and single ones: clip: frames of one film; stills: each stands alone, and has a picture as its "
        "overlay; auto: found from names, sizes, dates and what they show",
    )
    images_fps: float = Field(30.0, ge=0.001, le=10_000, description="rate at which a folder of images is taken to be filmed")
    rotate: Literal["auto", 0, 90, 180, 270] = Field(
        "auto",
        description="degrees by which the picture has to be turned clockwise so that people stand upright; auto: found from the people. "
        "Results stay in the picture as filmed",
    )


class CameraSettings(_Section):
    """The camera; set at most one of the first three. With none of them: focal length sqrt(width^2 + height^2)."""

    focal_px: float | None = Field(None, ge=1, le=1_000_000, description="focal length in pixels of the upright, square-pixel picture")
    fov_deg: float | None = Field(None, ge=0.1, lt=180, description="horizontal field of view in degrees")
    intrinsics: Path | None = Field(
        None, description='calibration of OpenCV, ROS, COLMAP, Kalibr, Pose2Sim, or JSON {"K": 3x3, "distortion": [k1, k2, p1, p2]}'
    )
    name: str | None = Field(None, coerce_numbers_to_str=True, description="intrinsics: which camera of a file that holds several, as cam0")
    static: bool = Field(
        False,
        description="the camera does not move: estimate gravity, floor and world coordinates from the people, and hold feet that stand",
    )

    @model_validator(mode="after")
    def _one(self) -> CameraSettings:
        given = [name for name in ("focal_px", "fov_deg", "intrinsics") if getattr(self, name) is not None]
        if self.name is not None and self.intrinsics is None:
            raise ValueError(f"camera.name is {self.name!r}, but no camera.intrinsics were given")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} were given, expected at most one of focal_px, fov_deg, intrinsics")
        return self


class DetectorSettings(_Section):
    """The person detector."""

    kind: Literal["movenet", "mediapipe", "boxes"] = Field(
        "movenet", description="movenet: anyone, boxes and 17 keypoints; mediapipe: one main person; boxes: your own, from `file`"
    )
    interval: int = Field(
        1, ge=1, le=1_000_000, description="live: ask the detector on each n-th picture; the tracker carries people between"
    )
    file_interval: int | None = Field(
        None,
        ge=1,
        le=64,
        description="files: ask it on each n-th frame, and on more where people come, go, meet or move fast; the rest is interpolated; "
        "null: every 0.13 s (boxes: on every frame)",
    )
    min_score: float = Field(
        0.15, ge=0, le=1, description="drop detections below this score (the tracker uses low ones to keep people it knows)"
    )
    input_px: int = Field(384, ge=128, le=2048, description="movenet: longer side of the picture it sees")
    batch: int = Field(1, ge=1, le=64, description="movenet: frames per call")
    file: Path | None = Field(None, description="boxes: MOT text or JSON with your boxes")
    model: Path | None = Field(None, description="mediapipe: a .task bundle other than the one that ships")


class KeypointSettings(_Section):
    """Keypoints of each tracked person."""

    kind: Literal["thunder", "detector"] = Field(
        "thunder", description="thunder: found in a crop of each person, exact at any size; detector: those of the detector"
    )
    looks: int = Field(1, ge=1, le=5, description="thunder: crops of each person; more are slower and little better")
    mirror: bool = Field(False, description="thunder: read each crop mirrored, too")


class TrackerSettings(_Section):
    """The tracker: identities over time."""

    high_score: float = Field(0.3, ge=0, le=1, description="detections from here on are matched first and may start a track")
    max_lost_s: float = Field(1.0, ge=0, description="forget a person not seen for this long")
    confirm_s: float = Field(0.1, ge=0, description="report a new person once seen for this long")
    carry_s: float = Field(
        0.7,
        ge=0,
        description="show a person the detector misses for this long while the network still sees one; five times as long while it is sure",
    )
    min_presence: float = Field(0.5, ge=0, le=1, description="the network sees a person in the crops from here on")
    min_keypoint_score: float = Field(
        0.45,
        ge=0,
        le=1,
        description="report a new person only once the six best keypoints of their crop have this mean score, or the detector is sure: "
        "furniture has none; 0: report whatever the detector finds (so with detector.kind boxes and keypoints.kind detector)",
    )
    appearance: bool = Field(True, description="distinguish people who meet by the colours of their clothes")
    scene_cuts: bool = Field(True, description="a cut to another shot ends all tracks; false for a source whose whole picture jumps")
    max_people: int | None = Field(None, ge=1, description="keep only this many people per frame, the largest; none: all")


class CropSettings(_Section):
    """The crops (views) of each person."""

    layout: str = Field("wide", description="named layout: wide (what our weights were trained with), paper, or custom")
    views: int = Field(2, ge=1, le=9, description="how many of the layout's views; more are slower, and with the fit hardly better")
    custom: list[tuple[float, float, float]] | None = Field(
        None, description="layout custom: shift x, shift y (fractions of the base box) and scale of each view"
    )
    upright: bool = Field(True, description="turn the crops so that the trunk points up (the camera is turned back exactly)")


class NetworkSettings(_Section):
    """The network that estimates bodies from the crops."""

    weights: str = Field("default", description="a name that ships with the package, or a .safetensors file of yours")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device is faster with it")


class TritonSettings(_Section):
    """The network on a Triton Inference Server instead of this process; docs/triton.md describes the setup."""

    servers: list[str] = Field([], description="HOST:PORT of gRPC; several: the next is used when one is lost; none: in process")
    model: str = Field("mchmr", description="what the model is called on the server")
    any_weights: bool = Field(False, description="take whatever weights are served, not only those of network.weights")
    shm: Literal["auto", "system", "cuda", "off"] = Field(
        "auto",
        description="crops through shared memory: auto, where the server is on this machine and sees it; or system, cuda, off",
    )
    in_flight: int = Field(4, ge=1, le=64, description="frames on their way to the server and back")
    deadline_s: float = Field(10.0, gt=0, description="a request without an answer for this long counts as lost")
    budget_s: float = Field(60.0, ge=0, description="how long to go on trying once something failed, for instance while a server restarts")
    tls: bool = Field(False, description="encrypt")
    ca_file: Path | None = Field(None, description="PEM of the authority that signed the server's certificate; none: the system's")
    cert_file: Path | None = Field(None, description="PEM of this client's certificate, where the server asks for one")
    key_file: Path | None = Field(None, description="PEM of the key of cert_file")
    headers: dict[str, SecretStr] = Field({}, description='sent with every call, as {"authorization": "Bearer ..."}; never written down')

    @field_validator("servers")
    @classmethod
    def _addresses(cls, servers: list[str]) -> list[str]:
        return [_host_and_port(server, "127.0.0.1:8001") for server in servers]


BUILDS = ("neutral", "female", "male")
_MOST_COEFFICIENTS, _LARGEST_COEFFICIENT = 10, 5.0


def checked_build(build: Any) -> Any:
    """Return a value of body.build unchanged. Raises ValueError if it is invalid."""
    if isinstance(build, list | tuple):
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and abs(one) <= _LARGEST_COEFFICIENT for one in build)
        if numbers and 1 <= len(build) <= _MOST_COEFFICIENTS:
            return list(build)
    elif isinstance(build, str) and build in BUILDS:
        return build
    raise ValueError(
        f"expected {', '.join(BUILDS)}, or a list of 1 to {_MOST_COEFFICIENTS} shape coefficients of at most {_LARGEST_COEFFICIENT:g}"
        ", for example [0, 0, 0, 0, 1.5]"
    )


class BodySettings(_Section):
    """The body model."""

    model: str = Field("free", description="free (ships with the package), or a path to your SMPL .npz / .pkl")
    build: Literal["neutral", "female", "male"] | list[float] = Field(
        "neutral",
        description="what pictures do not show: neutral, female, male (free body only), or up to ten shape coefficients, as in "
        "[0, 0, 0, 0, 1.5]; moves the surface of all bodies, no joint",
    )

    @field_validator("build", mode="before")
    @classmethod
    def _known_build(cls, build: Any) -> Any:
        """Report an invalid value in one line; pydantic would report each alternative separately."""
        return checked_build(build)


class FitSettings(_Section):
    """The fit of bodies to keypoints."""

    kind: Literal["map", "none"] = Field(
        "map", description="map: the most probable body given the network's body and the keypoints; none: the network's body"
    )
    iterations: int = Field(5, ge=1, le=50, description="map: steps at most; fewer are faster")
    passes: int = Field(
        2, ge=1, le=2, description="map, files: 2 fits each person again at the end with the shape of the whole track; 1 does not"
    )


class SmootherSettings(_Section):
    """Jitter removal, in seconds and therefore the same at every frame rate."""

    kind: Literal["two-sided", "causal", "none"] = Field("two-sided", description="two-sided looks ahead (files), causal does not (live)")
    lookahead_s: float = Field(0.5, ge=0, le=5, description="two-sided: how far it looks ahead; frames wait for so long")
    fill_gap_s: float = Field(
        0.35,
        ge=0,
        le=5,
        description="two-sided: fill gaps in a person's frames up to this long, as far as it looks ahead; marked interpolated",
    )
    strength: float = Field(1.0, ge=0.01, le=10, description="1 is tuned for people at ordinary speed; more is smoother and later")


class LiveSettings(_Section):
    """`mchmr live`: cameras and streams."""

    size: str | None = Field(None, pattern=r"^[1-9]\d*x[1-9]\d*$", description="camera: picture size, as in 1280x720; none: what it likes")
    fps: float | None = Field(None, ge=0.001, le=10_000, description="camera: pictures per second; none: what it likes")
    pixel_format: str | None = Field(None, description="camera: mjpeg, yuyv422, ...; none: what it likes")
    rtsp_transport: Literal["tcp", "udp"] = Field("tcp", description="rtsp: how pictures come; udp is a little sooner and may lose some")
    read_timeout_s: float = Field(3.0, gt=0, le=60, description="a source silent for this long is lost")
    restart: Literal["never", "on-error", "always"] = Field(
        "on-error", description="open a lost source again: never; when it broke off; always, also after its end and when it was never there"
    )
    longest_pause_s: float = Field(1.0, gt=0, le=60, description="longest pause between two tries to open a lost source")
    target_age_s: float | None = Field(
        None,
        gt=0,
        description="when results are older than this, use fewer views and ask the detector less often until they are not; none: never",
    )
    gather_s: float = Field(0.003, ge=0, le=0.1, description="several sources: how long a network waits for the others' pictures")
    page: str | None = Field(
        "127.0.0.1:8765", description="HOST:PORT of the page to watch, and of the JSON lines by WebSocket; none: no page"
    )
    page_token: SecretStr | None = Field(
        None, min_length=16, description="what the page's address must contain; none: nothing on this machine, elsewhere something random"
    )
    page_fps: float = Field(10.0, gt=0, le=60, description="page: at most so many pictures of a source per second")
    page_px: int = Field(640, ge=64, le=4096, description="page: longer side of the pictures")
    record_to: Path = Field(Path("recordings"), description="page: the folder that recordings go to")

    @field_validator("page")
    @classmethod
    def _address(cls, page: str | None) -> str | None:
        return page if page is None else _host_and_port(page, "127.0.0.1:8765")

    @field_validator("page_token")
    @classmethod
    def _in_a_path(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]+", token.get_secret_value()):
            raise ValueError("expected letters, digits and . _ ~ - only: it is part of an address")
        return token


class MqttSettings(_Section):
    """`mchmr live --mqtt`. The password comes only from `password_file` or the environment (MCHMR_MQTT_PASSWORD)."""

    qos: Literal[0, 1, 2] = Field(0, description="quality of service: 0 at most once, 1 at least once, 2 exactly once")
    retain: bool = Field(False, description="the broker keeps the last result for those who subscribe later")
    client_id: str | None = Field(None, description="what the broker knows this client as; none: a new name each time")
    username: str | None = Field(None, description="none: MCHMR_MQTT_USERNAME of the environment, or no user name")
    password_file: Path | None = Field(None, description="file whose first line is the password; none: MCHMR_MQTT_PASSWORD")
    ca_file: Path | None = Field(None, description="mqtts: PEM of the authority that signed the broker's certificate; none: the system's")
    cert_file: Path | None = Field(None, description="mqtts: PEM of this client's certificate, where the broker asks for one")
    key_file: Path | None = Field(None, description="mqtts: PEM of the key of cert_file")
    longest_pause_s: int = Field(30, ge=1, le=3600, description="longest pause between two tries to reach the broker")


class OutputSettings(_Section):
    """The files that are written."""

    overlay: bool = Field(True, description="write STEM.mp4, the picture with the bodies over it")
    audio: bool = Field(True, description="keep the source's sound in the overlay")
    rerun: bool = Field(False, description="write STEM.rrd: picture, bodies and timings, for the Rerun viewer")
    checkpoint_s: float = Field(60.0, gt=0, description="so often what is done is kept for --resume, should the run be killed")


class RuntimeSettings(_Section):
    """Device and threads."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads of the detector, and of each frame in the network; none: by the number of cores"
    )
    ahead: int = Field(4, ge=1, le=256, description="frames that decoding and detection may be ahead")


_WHERE_IT_RUNS = ("runtime", "triton", "live", "mqtt")
_HOW_IT_RUNS = ("source.hwaccel", "output.checkpoint_s")


class Settings(_Section):
    """All settings, in sections; immutable. `mchmr config` prints every one with its default and an explanation."""

    source: SourceSettings = SourceSettings()
    camera: CameraSettings = CameraSettings()
    detector: DetectorSettings = DetectorSettings()
    tracker: TrackerSettings = TrackerSettings()
    keypoints: KeypointSettings = KeypointSettings()
    crops: CropSettings = CropSettings()
    network: NetworkSettings = NetworkSettings()
    triton: TritonSettings = TritonSettings()
    body: BodySettings = BodySettings()
    fit: FitSettings = FitSettings()
    smoother: SmootherSettings = SmootherSettings()
    live: LiveSettings = LiveSettings()
    mqtt: MqttSettings = MqttSettings()
    output: OutputSettings = OutputSettings()
    runtime: RuntimeSettings = RuntimeSettings()


def load_settings(file: str | Path | None = None, overrides: list[str] | None = None, *, defaults: list[str] | None = None) -> Settings:
    """Build settings from a file and overrides.

    Args:
        file: YAML as printed by `mchmr config`, or the name of a file that ships, such as "fast"; None: the defaults.
        overrides: Single settings as "section.name=value", applied on top of the file.
        defaults: Values in the same form, used where neither the file nor an override sets them.

    Returns:
        The checked settings.

    Raises:
        UsageError: An unreadable file, an unknown name (the message gives the nearest known one) or a value out of range.
    """
    data: dict[str, Any] = {}
    if file is not None:
        try:
            loaded = yaml.safe_load(find_config(file).read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(
                f"cannot read settings {file}: {' '.join(str(error).split())}; expected a YAML file as printed by `mchmr config`, "
                "or the name of one that ships, as fast"
            ) from error
        if loaded is not None and not isinstance(loaded, dict):
            raise UsageError(f"settings {file} hold a {type(loaded).__name__}, expected sections as printed by `mchmr config`")
        # A section whose settings are all commented out reads as None.
        data = {name: {} if section is None else section for name, section in (loaded or {}).items()}
    for text in defaults or []:
        section, name = text.partition("=")[0].split(".")
        if isinstance(data.get(section, {}), dict) and name not in data.get(section, {}):
            apply_override(data, text)
    for text in overrides or []:
        apply_override(data, text)
    return settings_from(data)


def alone(settings: Settings) -> Settings:
    """Settings for a single picture, which has no neighbours in time for smoothing."""
    return settings.model_copy(update={"smoother": settings.smoother.model_copy(update={"kind": "none"})})


def files_named(settings: Settings) -> list[Path]:
    """Files that settings name, such as weights, bodies and intrinsics: the inputs of a run besides its source."""
    return list(files_by_setting(settings).values())


def files_by_setting(settings: Settings) -> dict[str, Path]:
    """The files of `files_named` by the setting's name, as in `camera.intrinsics`."""
    values = {f"{place}.{name}": value for place, section in settings for name, value in section if isinstance(value, (str, Path))}
    return {name: Path(value) for name, value in values.items() if _is_file(value)}


def may_change(setting: str) -> bool:
    """Whether a stopped run may be resumed with another value of a setting: settings of the machine, or of the interval of saving."""
    return setting.partition(".")[0] in _WHERE_IT_RUNS or setting in _HOW_IT_RUNS


def _is_file(value: str | Path) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # the text is no valid file name
        return False


def apply_override(data: dict[str, Any], text: str) -> None:
    """Set a value in a nested dictionary from text.

    Args:
        data: The dictionary; it is changed.
        text: `a.b=c`; the value is read as YAML.

    Raises:
        UsageError: The text is of another form.
    """
    name, sign, value = text.partition("=")
    keys = name.strip().split(".")
    if not sign or not all(keys) or len(keys) < 2:
        raise UsageError(f"--set got {text!r}, expected section.name=value, for example smoother.strength=2")
    try:
        parsed = yaml.safe_load(value)
    except yaml.reader.ReaderError:  # a character that YAML excludes, possibly in a file's name
        parsed = value
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist, a number of thousands of digits
        raise UsageError(f"--set {name}: cannot read {value[:40]!r}, expected a number, a word or a YAML list") from error
    here = data
    for key in keys[:-1]:
        here = here.setdefault(key, {})
        if not isinstance(here, dict):
            raise UsageError(f"--set got {text!r}: {key} is a value, not a section")
    here[keys[-1]] = parsed


def settings_from(data: dict[str, Any]) -> Settings:
    """Validate a nested dictionary. Raises UsageError that names the first error."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return f"unknown setting {'.'.join(where)}{_suggest(where)}; `mchmr config` lists all"
    got = first.get("input")
    return f"setting {'.'.join(where) or 'file'}: got {got!r}; {first['msg'].removeprefix('Value error, ')}"


def _suggest(where: list[str]) -> str:
    section: Any = Settings
    for part in where[:-1]:
        section = section.model_fields[part].annotation
    close = difflib.get_close_matches(where[-1], list(section.model_fields), n=1, cutoff=0.5)
    if close:
        return f", did you mean {'.'.join([*where[:-1], close[0]])}?"
    homes = [f"{name}.{where[-1]}" for name, field in Settings.model_fields.items() if where[-1] in field.annotation.model_fields]  # type: ignore[union-attr]
    return f", did you mean {homes[0]}?" if homes else f", known here: {', '.join(section.model_fields)}"
