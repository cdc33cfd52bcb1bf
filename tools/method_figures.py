"""Make the figures and tables of docs/method.md: all its measured and drawn parts.

    mchmr synth -o runs/shown -n 300 --seed 2 --split test --data DATA --backgrounds PANORAMAS python tools/method_figures.py -o runs/method
    --real DIR_OF_REAL_VIEWS --shards runs/test --shown runs/shown [--ablation DIR]

`--real` is a folder as for `mchmr evaluate real3d`, `--shards` people of the test split by `mchmr synth`, `--shown` people whose pictures
may be published: rendered with CC0 panoramas only, because generated rooms use any available pictures as textures. The output of detector
and encoder is stored in the output folder: the first run takes some 20 minutes on two cores, later ones, also with other weights of the
same encoder, two. `--ablation` is the output folder of `mchmr ablate`, for networks trained without a loss. Pictures go to docs/images/,
tables between the two markers in docs/method.md; nothing outside of the markers is changed.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import method_experiments as experiments
import numpy as np
import torch
from matplotlib.figure import Figure
from model_card import markdown, small_jpeg
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import skin
from mchmr_stream.config import load_settings
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.cropping.warp import shared_reductions, warp_crops
from mchmr_stream.errors import UsageError
from mchmr_stream.evaluation.camera_consistency import averaged, camera_spread
from mchmr_stream.evaluation.figures import draw_cases
from mchmr_stream.evaluation.real_observations import (
    ObservedView,
    load_observed,
    observe_real,
    real_errors,
    real_limbs_m,
    save_observed,
)
from mchmr_stream.evaluation.real_predictions import known_camera
from mchmr_stream.evaluation.real_views import RealView, load_views
from mchmr_stream.evaluation.synthetic_people import check_same_people, labelled_people, observed_people
from mchmr_stream.evaluation.synthetic_predictions import KNOWN, SyntheticPredictions, predict
from mchmr_stream.evaluation.worst_cases import worst_synthetic
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.crops import image_from_crop_affine
from mchmr_stream.metrics.joint_errors import LIMB_BONES, LIMBS_IN_BLAZEPOSE, LIMBS_IN_SMPL, centred_on_hips, errors_by_frame
from mchmr_stream.network.fusion import ConcatFusion, CropAwareFusion, SelfAttentionFusion
from mchmr_stream.network.mesh_network import MultiCropNet
from mchmr_stream.network.paper_head import PaperFusion
from mchmr_stream.network.weights import load_network
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.rendering.shading import paint_bodies
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.observed_people import ObservedPeople

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "method.md"
START, END = "<!-- measured: written by tools/method_figures.py -->", "<!-- end of measured -->"
LARGEST_PICTURE_BYTES = 150_000
VIEWS, ALL_VIEWS = 5, 9
SCALES = (0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.6)
FRAME = 12
"""of the first real view, in the drawings"""
_COLOURS = ("#d55e00", "#e69f00", "#009e73", "#0072b2", "#cc79a7")
_LIMBS = list(LIMBS_IN_SMPL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for what was observed")
    parser.add_argument("--real", type=Path, required=True, help="folder of real views")
    parser.add_argument("--shards", type=Path, required=True, help="rendered people of the test split")
    parser.add_argument("--shown", type=Path, required=True, help="rendered people whose pictures may be shown")
    parser.add_argument("--weights", default="default", help="a .safetensors file, or default")
    parser.add_argument("--ablation", type=Path, help="output folder of `mchmr ablate`")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the markers (default docs/method.md)")
    args = parser.parse_args()

    data = Data(args.out, args.real, args.shards, args.shown, args.weights)
    # The order of sums changes the last digit, which changes a picture's bytes.
    torch.set_num_threads(1)
    images = args.page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (images / f"method_{name}").write_bytes(draw(data))
        print(images / f"method_{name}", flush=True)
    args.page.write_text(between_markers(args.page.read_text(), "\n".join(tables(data, args.ablation))))
    print(args.page)


def between_markers(page: str, text: str) -> str:
    """Replace the text between the markers of a page.

    Raises:
        UsageError: there is not exactly one pair of markers.
    """
    if page.count(START) != 1 or page.count(END) != 1 or page.index(START) > page.index(END):
        raise UsageError(f"expected a page with the lines {START} and {END} once each, in this order")
    before, rest = page.split(START)
    return f"{before}{START}\n\n{text}\n{END}{rest.split(END)[1]}"


class Data:
    """The stored output of detector and encoder, and the network's predictions from it."""

    def __init__(self, folder: Path, real: Path, shards: Path, shown: Path, weights: str) -> None:
        self.folder, self.real_folder, self.weights = folder, real, weights
        self.network = network = load_network(weights)
        self.encoder = network.net.config.encoder
        self.head = network.net.head.eval()
        experiments.crop_aware_layers(self.head)
        self.body = SparseBody(load_body("free"))
        self.people: ObservedPeople = observed_people(shards, folder / f"rendered_{self.encoder}.npz", self.encoder, ALL_VIEWS)
        self.shown = observed_people(shown, folder / f"shown_{self.encoder}.npz", self.encoder, VIEWS)
        self.shown_labels = list(labelled_people(shown))
        check_same_people(self.shown_labels, self.shown.betas.numpy())
        borrowed = next((each.scene.background for each in self.shown_labels if each.scene.background.startswith("picture:")), None)
        if borrowed is not None:
            raise UsageError(
                f"people of {shown} stand in front of {borrowed}, which may not be free to show; render them with panoramas only"
            )
        check_same_people(list(labelled_people(shards)), self.people.betas.numpy())
        self.found = self.people.found()
        self.real = self.observed("wide", ALL_VIEWS)
        self.view: RealView = load_views(real)[0]
        self.predictions: SyntheticPredictions = predict(self.people, self.network, views=VIEWS)

    def observed(self, name: str, views: int, custom: Sequence[Sequence[float]] | None = None) -> list[ObservedView]:
        """Return the observed real views under a layout."""
        kept = self.folder / f"real_{name}_{self.encoder}.npz"
        if not kept.is_file():
            changes = [] if custom is None else ["crops.layout=custom", f"crops.custom={[list(row) for row in custom]}"]
            save_observed(kept, observe_real(self.real_folder, self.weights, views, overrides=changes))
        return load_observed(kept)

    def rendered_errors(self, head: Any = None, index: Sequence[int] = range(VIEWS), told: Sequence[int] | None = None) -> dict[str, float]:
        """Compute mean errors of rendered people that the detector found, with the known focal length."""
        rows = torch.nonzero(self.found)[:, 0]
        batch = self.people.batch(rows, self.body)
        with torch.inference_mode():
            out = (head or self.head)(experiments.with_views(batch.seen, index, told))
            joints, _, _ = self.body.pose(out.rotations, out.betas)
        centred, aligned = errors_by_frame(joints[:, _LIMBS].double().numpy(), batch.joints_m[:, _LIMBS].double().numpy())
        return {"MPJPE mm": float(centred.mean()), "PA-MPJPE mm": float(aligned.mean())}

    def real_errors(self, head: Any = None, index: Sequence[int] = range(VIEWS), told: Sequence[int] | None = None) -> dict[str, float]:
        """Compute mean errors on the real views, per frame, with the known camera."""
        chosen = [ObservedView(v.frame, v.roll_rad, experiments.with_views(v.seen, index, told), v.target_m) for v in self.real]
        return real_errors(head or self.head, chosen, self.body, len(list(index)))


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(data: Data, ablation: Path | None) -> Iterator[str]:
    """Yield all text between the markers."""
    net = data.network
    frames = sum(len(view.target_m) for view in data.real)
    yield (
        f"Weights `{net.sha256[:12]}` (fusion layers: {net.net.config.fusion_layers}); real: {len(data.real)} cameras, {frames} frames, "
        f"each by itself, camera known; rendered: the {int(data.found.sum())} of "
        f"{len(data.people)} people of the test split whom the detector found, focal length known. Errors: MPJPE / PA-MPJPE, mm.\n"
    )
    for number, (title, table) in enumerate(TABLES.items(), 1):
        yield f"**Table {number}.** {title}\n\n{table(data, ablation)}"


def relations_table(data: Data, _: Path | None) -> str:
    rows = [[name, f"{value:.1e}"] for name, value in experiments.camera_relations().items()]
    for angle in (10, 30):
        apart = [experiments.disagreement_when_turned(angle, about_own_centre=own) for own in (False, True)]
        rows.append([f"crops turned by {angle} degrees about the principal point, m", f"{apart[0]:.1e}"])
        rows.append([f"crops turned by {angle} degrees each about its own centre, m", f"{apart[1]:.2f}"])
    weak = experiments.weak_perspective_error(data.body.model, (2.0, 3.0, 5.0, 10.0))
    rows += [[f"weak against full perspective at {metres:.0f} m, % of the body's height", f"{value:.1f}"] for metres, value in weak.items()]
    return markdown(["largest departure", ""], rows)


def views_table(data: Data, _: Path | None) -> str:
    both = lambda errors: f"{errors['MPJPE mm']:.1f} / {errors['PA-MPJPE mm']:.1f}"
    rows = [[str(v), both(data.real_errors(index=range(v))), both(data.rendered_errors(index=range(v)))] for v in range(1, ALL_VIEWS + 1)]
    return markdown(["V", "real", "rendered"], rows)


def looks_table(data: Data, _: Path | None) -> str:
    rows = []
    for name, (errors, counted) in {"real": data_points_real(data), "rendered": data_points_rendered(data)}.items():
        looks = [experiments.independent_looks(errors[:, :v], counted[:, :v]) for v in (2, VIEWS, ALL_VIEWS)]
        rows.append([name, *(f"{value:.2f}" for value in looks)])
    return markdown(["", *(f"V = {v}" for v in (2, VIEWS, ALL_VIEWS))], rows)


def layouts_table(data: Data, _: Path | None) -> str:
    centre, same = [view[:2] for view in layout("wide", VIEWS).views.tolist()], [(0.0, 0.0, 1.2)]
    scales = [view[2] for view in layout("wide", VIEWS).views.tolist()]
    paper = layout("paper", VIEWS).views.round(3).tolist()
    layouts: dict[str, Callable[[], dict[str, float]]] = {
        "`wide` (shifted and scaled)": data.real_errors,
        "only shifted, all scales 1.2": lambda: measured(data, "shifted", [(*at, 1.2) for at in centre]),
        "only scaled, all in the middle": lambda: measured(data, "scaled", [(0.0, 0.0, scale) for scale in scales]),
        "the paper's five, as squares": lambda: measured(data, "papers", paper),
        "the first view five times": lambda: data.real_errors(index=[0] * VIEWS),
        "the first view alone": lambda: data.real_errors(index=range(len(same))),
    }
    rows = []
    for name, measure in layouts.items():
        errors = measure()
        rows.append([name, f"{errors['MPJPE mm']:.1f} / {errors['PA-MPJPE mm']:.1f}"])
    return markdown(["crops, real views", "error"], rows)


def measured(data: Data, name: str, custom: Sequence[Sequence[float]]) -> dict[str, float]:
    return real_errors(data.head, data.observed(name, VIEWS, [[round(float(x), 3) for x in row] for row in custom]), data.body, VIEWS)


def scales_table(data: Data, _: Path | None) -> str:
    errors = scale_errors(data)
    within = [f"{np.mean(one < 0.05) * 100:.0f}" for one in errors]
    return markdown(
        ["side of the crop in base sides", *(f"{scale:g}" for scale in SCALES)],
        [
            ["median error of a point, % of the base side", *(f"{np.median(one) * 100:.1f}" for one in errors)],
            ["within 5 %, % of points", *within],
        ],
    )


def contrastive_table(data: Data, ablation: Path | None) -> str:
    rows = []
    for name, heads in {"these weights": [data.head], **trained(ablation, "base", "no_contrastive_loss")}.items():
        rows.append(
            [name, *(spread([experiments.embedding_similarity(h, some_people(data))[which] for h in heads], "{:.2f}") for which in (0, 1))]
        )
    return markdown(["mean cosine of embeddings", "crops of one person", "crops of two people"], rows)


def fusion_table(data: Data, _: Path | None) -> str:
    order, beside = list(range(VIEWS)), [1, 2, 3, 4, 0]
    cases = {
        "as trained": (data.head, order, None),
        "attention weights all equal": (experiments.with_uniform_attention(data.head), order, None),
        "fusion not told where the crops lie to each other": (experiments.without_relations(data.head), order, None),
        "crops in reverse order": (data.head, order[::-1], None),
        "every crop told to lie where its neighbour lies": (data.head, order, beside),
    }
    rows = []
    for name, (head, index, told) in cases.items():
        errors = [measure(head, index, told) for measure in (data.real_errors, data.rendered_errors)]
        rows.append([name, *(f"{each['MPJPE mm']:.1f} / {each['PA-MPJPE mm']:.1f}" for each in errors)])
    return markdown([f"fusion, V = {VIEWS}, nothing retrained", "real", "rendered"], rows)


def fusions_table(data: Data, _: Path | None) -> str:
    config = data.network.net.config
    dim, frequencies, heads = config.token_dim, config.frequencies, config.fusion_heads
    fusions: dict[str, tuple[torch.nn.Module, int, str]] = {
        "crop-aware attention (ours)": (CropAwareFusion(dim, heads, frequencies), dim, "any"),
        "self-attention": (SelfAttentionFusion(dim, heads), dim, "any"),
        "concatenation with relations": (ConcatFusion(dim, VIEWS, frequencies), dim, str(VIEWS)),
        "the paper's, on ResNet-50 features": (PaperFusion(2048, 256, VIEWS, 32), 2048, str(VIEWS)),
    }
    rows = []
    for name, (module, width, any_views) in fusions.items():
        inputs = torch.randn(1, VIEWS, width), torch.rand(1, VIEWS, 3) + 0.5
        rows.append([name, *sizes(module, *inputs), any_views])
    encoder = data.network.net.encoder
    rows.append([f"for comparison the encoder {data.encoder}", *sizes(encoder, torch.rand(VIEWS, 3, *encoder.input_hw)), "any"])
    return markdown(["fusion", "parameters, millions", f"multiplications for V = {VIEWS}, millions", "V"], rows)


def sizes(module: torch.nn.Module, *inputs: Tensor) -> tuple[str, str]:
    """Count millions of parameters and of multiplications."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return f"{sum(each.numel() for each in module.parameters()) / 1e6:.2f}", f"{counter.get_total_flops() / 2e6:.1f}"


def cameras_table(data: Data, ablation: Path | None) -> str:
    torch.manual_seed(0)
    heads = {"these weights": [data.head], "untrained": [MultiCropNet(data.network.net.config).eval().head]}
    heads |= trained(ablation, "base", "no_camera_consistency_loss")
    rows, columns = [], []
    for name, some in heads.items():
        spreads = [camera_spreads_of(data, head) for head in some]
        columns = list(spreads[0])
        rows.append([name, *(spread([each[column] for each in spreads], "{:.2f}") for column in columns)])
    return markdown(["spread over the five views, rendered, median", *columns], rows)


def camera_spreads_of(data: Data, head: Any) -> dict[str, float]:
    batch = data.people.batch(torch.nonzero(data.found)[:, 0], data.body).choose_views(range(VIEWS))
    with torch.inference_mode():
        said = head(batch.seen).views_cam
    return experiments.camera_spreads(said.double().numpy(), batch.views_px.double().numpy(), batch.focal_px.double().numpy())


def depth_table(data: Data, _: Path | None) -> str:
    predictions = data.predictions
    found, bodies, truth = predictions.truth["found"] > 0, predictions.predicted[KNOWN], predictions.truth
    transl, true = bodies["transl_m"][found].astype(np.float64), truth["pelvis_m"][found].astype(np.float64)
    depth = lambda z: float(np.median(np.abs(z / true[:, 2] - 1))) * 100
    centred, _unused = errors_by_frame(*(part["joints_m"][found][:, _LIMBS].astype(np.float64) for part in (bodies, truth)))
    rank = float(spearmanr(camera_spread(transl), centred).statistic)
    rows = [
        ["error of the depth, one view, mean over the five, %", f"{np.mean([depth(transl[:, v, 2]) for v in range(VIEWS)]):.2f}"],
        ["error of the depth, all five averaged, %", f"{depth(averaged(transl)[:, 2]):.2f}"],
        ["rank correlation of the cameras' spread with MPJPE", f"{rank:.2f}"],
    ]
    return markdown(["rendered, median over people", ""], rows)


def encoding_table(_: Data, __: Path | None) -> str:
    number = lambda value: "overflow" if np.isinf(value) else f"{value:.1e}"
    ks = (0, 4, 10, 15, 18, 22, 31)
    rows = [
        [name, *(number(experiments.phase_error(k, kind)) for k in ks)]
        for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16))
    ]
    gaps = [[str(count), f"{experiments.relation_gap(count):.2f}"] for count in (0, 1, 2, 4, 8)]
    first = markdown(["error of the phase, radians, k =", *map(str, ks)], rows)
    return f"{first}\n{markdown(['frequencies', 'least distance of two different relations of `wide`, over their mean length'], gaps)}"


def along_table(data: Data, _: Path | None) -> str:
    rows = []
    for name, (predicted, target, pelvis) in {"real": limbs_real(data), "rendered": limbs_rendered(data)}.items():
        values = experiments.along_and_across(centred_on_hips(predicted), centred_on_hips(target), pelvis)
        rows.append([name, *(f"{value:.1f}" for value in values.values())])
    twins = experiments.twins(load_body("free")).joints_m[:, _LIMBS]
    (error,), (aligned,) = errors_by_frame(twins[:1], twins[1:])
    pixels = twins[..., :2] / twins[..., 2:] * 1000
    apart = float(np.abs(pixels[0] - pixels[1]).max())
    first = markdown(["error of the limbs", "along the line of sight, mm", "across it, mm", "share of the squared error along it, %"], rows)
    second = markdown(
        ["the two poses of the drawing", ""],
        [
            ["largest distance in the picture, px (focal length 1000)", f"{apart:.0e}"],
            ["MPJPE / PA-MPJPE between them, mm", f"{error:.0f} / {aligned:.0f}"],
        ],
    )
    return f"{first}\n{second}"


TABLES: Mapping[str, Callable[[Data, Path | None], str]] = {
    "Relations between the local cameras, on 1,000 random people with five random crops each, and what breaks them.": relations_table,
    "Number of views, the first V of `wide`. The network was trained with up to five.": views_table,
    "How many independent measurements the V crops' landmarks are worth.": looks_table,
    f"Layouts of {VIEWS} crops on the network trained with `wide`.": layouts_table,
    "The encoder's limb points by how wide the crop is cut, real views, crops in the middle.": scales_table,
    "Contrastive embeddings, the first 100 rendered people.": contrastive_table,
    "What the fusion uses.": fusion_table,
    "Fusions by size, one person, one layer.": fusions_table,
    "The five local cameras, as they come (s_i, t_i) and brought to the full picture.": cameras_table,
    "What averaging the cameras brings.": depth_table,
    "Positional encoding.": encoding_table,
    "Along and across the line of sight.": along_table,
}


def trained(ablation: Path | None, *variants: str) -> dict[str, list[Any]]:
    """Load heads of all seeds of some variants of an ablation; none if the folder is missing or lacks them."""
    found: dict[str, list[Any]] = {}
    for variant in variants if ablation is not None else ():
        files = sorted(Path(ablation or "").glob(f"{variant}_seed*/mchmr_default.safetensors"))
        if files:
            found[f"ablation: {variant.replace('_', ' ')}, {len(files)} seed{'s' if len(files) > 1 else ''}"] = [
                load_network(str(file)).net.head.eval() for file in files
            ]
    return found


def spread(values: Sequence[float], form: str) -> str:
    """Format the value, or mean ± standard deviation of several."""
    mean = form.format(float(np.mean(values)))
    return mean if len(values) == 1 else f"{mean} ± {form.format(float(np.std(values, ddof=1)))}"


def some_people(data: Data) -> Any:
    rows = torch.nonzero(data.found)[:100, 0]
    return data.people.batch(rows, data.body).choose_views(range(VIEWS)).seen


def data_points_real(data: Data) -> tuple[Any, Any]:
    parts = [experiments.real_point_errors(view) for view in data.real]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def data_points_rendered(data: Data) -> tuple[Any, Any]:
    residuals = data.people.residuals(data.body, data.people.places(data.body))
    limbs = list(LIMBS_IN_BLAZEPOSE)
    errors = residuals.landmark_error[:, :, limbs].double().numpy()
    counted = (residuals.visibility[:, :, limbs] > 0.5).numpy() & (residuals.inside > 0).numpy()[:, None]
    return errors, counted


def scale_errors(data: Data) -> list[Any]:
    """For each scale the distances of all points from the ground truth, base sides."""
    views = data.observed("scales", ALL_VIEWS, [(0.0, 0.0, scale) for scale in SCALES])
    parts = [np.linalg.norm(experiments.real_point_errors(view)[0], axis=-1) for view in views]
    return [np.concatenate([part[:, number].ravel() for part in parts]) for number in range(len(SCALES))]


def limbs_real(data: Data) -> tuple[Any, Any, Any]:
    predicted, target = [], []
    with torch.inference_mode():
        for view in data.real:
            out = data.head(experiments.with_views(view.seen, range(VIEWS)))
            predicted.append(real_limbs_m(out, view.roll_rad, data.body))
            target.append(view.target_m.numpy()[view.frame.numpy()])
    true = np.concatenate(target)
    return np.concatenate(predicted), true, true[:, 6:8].mean(1)


def limbs_rendered(data: Data) -> tuple[Any, Any, Any]:
    predictions = data.predictions
    found = predictions.truth["found"] > 0
    parts = [part["joints_m"][found][:, _LIMBS].astype(np.float64) for part in (predictions.predicted[KNOWN], predictions.truth)]
    return parts[0], parts[1], predictions.truth["pelvis_m"][found].astype(np.float64)


# --- figures ---------------------------------------------------------------------------------------------------------


class Still:
    """One frame of a real view, and the person's base box in it."""

    def __init__(self, data: Data) -> None:
        view = data.real[0]
        self.row = int((view.frame - FRAME).abs().argmin())
        with known_camera(data.view) as camera:
            source, self.intrinsics = open_input(data.view.video, load_settings(None, [camera]))
            try:
                wanted = int(view.frame[self.row])
                self.rgb = next(frame.rgb for frame in source.frames() if frame.index == wanted)
            finally:
                source.close()
        self.roll = view.roll_rad[self.row : self.row + 1].numpy()
        info = view.seen.base_info[self.row].double().numpy()
        focal = self.intrinsics.fx
        self.base_px = np.array([[info[0] * focal / 2.8, info[1] * focal / 2.8, (0.06 * info[2] + 0.24) * focal]], np.float32)
        self.seen = type(view.seen)(*(value[self.row : self.row + 1] for value in view.seen))

    def views_px(self, name: str, views: int = VIEWS) -> Any:
        return layout(name, views).views_px(self.base_px)

    def corners_px(self, views_px: Any, crop_hw: tuple[int, int]) -> Any:
        """(V, 5, 2) outlines in the picture."""
        affine = image_from_crop_affine(views_px, self.roll, self.intrinsics, crop_hw)[0]
        h, w = crop_hw
        outline = np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1], [0, 0, 1]], np.float64) - [0.5, 0.5, 0]
        return np.einsum("vij,kj->vki", affine, outline)

    def crops(self, views_px: Any, crop_hw: tuple[int, int], scales: Sequence[float]) -> Any:
        """Cut the crops, (V, h, w, 3)."""
        affine = image_from_crop_affine(views_px, self.roll, self.intrinsics, crop_hw)
        crops = warp_crops(self.rgb, affine, crop_hw, shared_reductions(scales), torch.device("cpu"))
        return crops[0].permute(0, 2, 3, 1).numpy()


def draw_crops(data: Data) -> bytes:
    still = Still(data)
    figure = Figure(figsize=(10, 4.6), dpi=90, facecolor="white")
    grid = figure.add_gridspec(2, 8, wspace=0.06, hspace=0.2, left=0.005, right=0.995, top=0.94, bottom=0.01)
    picture = figure.add_subplot(grid[:, :3])
    picture.imshow(still.rgb)
    for row, name in enumerate(("wide", "paper")):
        chosen = layout(name, VIEWS)
        views_px = still.views_px(name)
        if name == "wide":
            for outline, colour in zip(still.corners_px(views_px, chosen.crop_hw), _COLOURS, strict=True):
                picture.plot(*outline.T, color=colour, linewidth=1.6)
            low, high = still.corners_px(views_px, chosen.crop_hw).min((0, 1)), still.corners_px(views_px, chosen.crop_hw).max((0, 1))
            picture.set_xlim(low[0] - 10, high[0] + 10)
            picture.set_ylim(high[1] + 10, low[1] - 10)
        crops = still.crops(views_px, chosen.crop_hw, chosen.views[:, 2].tolist())
        for number, crop in enumerate(crops):
            axes = figure.add_subplot(grid[row, 3 + number])
            axes.imshow(crop)
            shift_x, shift_y, scale = chosen.views[number].tolist()
            shift = f" ({shift_x:+.1f}, {shift_y:+.1f})" if shift_x or shift_y else ""
            axes.set_title(f"{f'{name}: ' if number == 0 else ''}{scale:.2f}{shift}", fontsize=7)
            _bare(axes, _COLOURS[number])
    picture.set_title("the views of layout wide; above the crops: scale (shift)", fontsize=8)
    _bare(picture, "white")
    return small_png(figure)


def draw_attention(data: Data) -> bytes:
    """Weights per head and on average, over all frames of the real views, next to one frame."""
    still = Still(data)
    chosen = layout("wide", VIEWS)
    index = list(range(VIEWS))
    one = experiments.attention(data.head, experiments.with_views(still.seen, index))
    everything = [torch.cat(parts, 1) for parts in zip(
        *(experiments.attention(data.head, experiments.with_views(view.seen, index)) for view in data.real), strict=True)]  # fmt: skip
    heads = everything[0].shape[0]
    figure = Figure(figsize=(2.0 * (heads + 2), 2.5 * len(everything) + 1.5), dpi=90, facecolor="white")
    outer = figure.add_gridspec(
        1 + len(everything), 1, height_ratios=[1.2, *[2.2] * len(everything)], hspace=0.25, top=0.93, bottom=0.08, left=0.06, right=0.99
    )
    strip = outer[0].subgridspec(1, VIEWS, wspace=0.02)
    for number, crop in enumerate(still.crops(still.views_px("wide"), chosen.crop_hw, chosen.views[:, 2].tolist())):
        axes = figure.add_subplot(strip[number])
        axes.imshow(crop[::2, ::2])
        axes.set_title(f"view {number}", fontsize=8)
        _bare(axes, _COLOURS[number])
    for layer, (frame, all_frames) in enumerate(zip(one, everything, strict=True)):
        row = outer[1 + layer].subgridspec(1, heads + 2, wspace=0.12)
        panels = {"this frame, mean of heads": frame[:, 0].mean(0), "all frames, mean of heads": all_frames.mean((0, 1))}
        panels |= {f"all frames, head {head}": all_frames[head].mean(0) for head in range(heads)}
        for number, (title, weights) in enumerate(panels.items()):
            axes = figure.add_subplot(row[number])
            axes.imshow(weights.numpy(), cmap="viridis", vmin=0, vmax=max(0.6, float(all_frames.mean(1).max())))
            for target in range(VIEWS):
                for source in range(VIEWS):
                    value = float(weights[target, source])
                    axes.text(
                        source,
                        target,
                        f"{value * 100:.0f}",
                        ha="center",
                        va="center",
                        fontsize=6,
                        color="white" if value < 0.4 else "black",
                    )
            axes.set_title(title, fontsize=7)
            axes.set_xticks(index, index, fontsize=6)
            axes.set_yticks(index, index if number == 0 else [], fontsize=6)
            axes.set_xlabel("source view j", fontsize=6)
            if number == 0:
                axes.set_ylabel(f"target view i{f', layer {layer}' if len(one) > 1 else ''}", fontsize=6)
    return small_png(figure)


def draw_cameras(data: Data) -> bytes:
    """One person's five crop cameras: the pelvis' position in each crop, and their common camera."""
    still = Still(data)
    views_px = still.views_px("wide").astype(np.float64)
    with torch.inference_mode():
        said = data.head(experiments.with_views(still.seen, range(VIEWS))).views_cam.double().numpy()
    focal = np.array([still.intrinsics.fx])
    full = experiments.full_from_local(said, views_px, focal)[0]
    s, t = said[0, :, 0], said[0, :, 1:]
    figure = Figure(figsize=(10, 3.6), dpi=90, facecolor="white")
    plane, scales, shifts = figure.subplots(1, 3)
    for number, ((cx, cy, _side), colour, at) in enumerate(zip(views_px[0], _COLOURS, full, strict=True)):
        seen = focal[0] * at[:2] / at[2]
        plane.plot(cx, cy, marker="+", color=colour, markersize=10, markeredgewidth=2)
        plane.annotate(f"{number}", (cx, cy), fontsize=8, color=colour, xytext=(5, -10), textcoords="offset points")
        plane.annotate("", seen, (cx, cy), arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.3})
    reach = 0.2 * float(still.base_px[0, 2])
    plane.set_xlim(views_px[0, 0, 0] - reach, views_px[0, 0, 0] + reach)
    plane.set_ylim(views_px[0, 0, 1] + reach, views_px[0, 0, 1] - reach)
    plane.set_aspect("equal")
    plane.grid(alpha=0.3)
    plane.set_title("rolled plane, px: from each crop's centre to where\nthat view's camera puts the pelvis", fontsize=8)
    places = np.arange(VIEWS)
    for axes, pairs, title in (
        (scales, (("s_i", s), ("b_i s_i", s * views_px[0, :, 2])), "scales, over their mean"),
        (
            shifts,
            (("tx_i", t[:, 0]), ("T_x of view i", full[:, 0]), ("ty_i", t[:, 1]), ("T_y of view i", full[:, 1])),
            "shifts, m",
        ),
    ):
        for number, (name, values) in enumerate(pairs):
            scaled = values / values.mean() if axes is scales else values
            axes.plot(
                places, scaled, marker="o", markersize=4, linestyle=":" if number % 2 == 0 else "-", label=name, color=_COLOURS[number]
            )
        axes.set_xticks(places, [f"view {v}" for v in places], fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(title, fontsize=8)
        axes.grid(alpha=0.3)
        axes.margins(y=0.25 if axes is scales else 0.4)
        axes.legend(fontsize=7, loc="upper center", ncols=2)
    plane.tick_params(labelsize=7)
    figure.tight_layout()
    return small_png(figure)


def draw_twins(_: Data) -> bytes:
    """Two poses with one projection: from the camera, and from the side."""
    model = load_body("free")
    twins = experiments.twins(model)
    vertices = skin(model, twins.rotations, torch.zeros(2, 10), twins.transl)[0].numpy()
    size, colours = 420, np.array([[0.85, 0.55, 0.35], [0.35, 0.6, 0.85]], np.float32)
    front = Intrinsics(1300.0, 1300.0, (size - 1) / 2, size * 0.45)
    # Seen from the person's left: the camera's depth becomes the picture's x.
    middle = twins.transl[0].numpy()
    aside = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
    from_side = lambda points: (points - middle) @ aside.T + middle
    figure = Figure(figsize=(10, 2.75), dpi=90, facecolor="white")
    panels = figure.subplots(1, 4, gridspec_kw={"wspace": 0.03, "left": 0.01, "right": 0.99, "top": 0.9, "bottom": 0.02})
    for pair, turned, name in (
        (panels[:2], np.asarray, "as the camera sees it"),
        (panels[2:], from_side, "from the side (camera at the left)"),
    ):
        for which, axes in enumerate(pair):
            rgb = np.full((size, size, 3), 235, np.uint8)
            paint_bodies(
                rgb, turned(vertices[which : which + 1]).astype(np.float32), model.faces, front, colours[which : which + 1], opacity=1.0
            )
            axes.imshow(rgb)
            points = project(turned(twins.joints_m[which])[_LIMBS], front)
            for start, end in LIMB_BONES:
                axes.plot(*points[[start, end]].T, color="black", linewidth=1.2)
            axes.plot(*points.T, linestyle="", marker="o", markersize=2.5, color="black")
            axes.set_title(f"pose {'AB'[which]}, {name}", fontsize=8)
            _bare(axes, "white")
    return small_png(figure)


def draw_measured(data: Data) -> bytes:
    """Errors against the number of views; the encoder's errors against the crop's scale; the phase's errors."""
    figure = Figure(figsize=(10, 3.0), dpi=90, facecolor="white")
    by_views, by_scale, phases = figure.subplots(1, 3)
    counts = range(1, ALL_VIEWS + 1)
    for name, measure, colour in (("real", data.real_errors, _COLOURS[0]), ("rendered", data.rendered_errors, _COLOURS[3])):
        errors = [measure(index=range(v))["PA-MPJPE mm"] for v in counts]
        by_views.plot(counts, np.array(errors) / errors[0] * 100, marker="o", markersize=4, label=name, color=colour)
    by_views.axvline(VIEWS, color="grey", linewidth=0.8, linestyle=":")
    by_views.set_title("PA-MPJPE, % of that with one view,\nagainst the number of views (dotted: most in training)", fontsize=8)
    by_views.legend(fontsize=7)
    errors = scale_errors(data)
    by_scale.plot(SCALES, [np.median(one) * 100 for one in errors], marker="o", markersize=4, color=_COLOURS[0], label="median")
    by_scale.plot(
        SCALES, [np.percentile(one, 90) * 100 for one in errors], marker="o", markersize=4, color=_COLOURS[1], label="nine of ten points"
    )
    by_scale.set_yscale("log")
    by_scale.set_yticks((2, 5, 10, 20, 40), (2, 5, 10, 20, 40))
    by_scale.minorticks_off()
    by_scale.legend(fontsize=7)
    by_scale.set_title("error of the encoder's points, % of the base side,\nagainst the crop's side (base sides)", fontsize=8)
    ks = range(32)
    for name, kind, colour in (
        ("float32", torch.float32, _COLOURS[3]),
        ("bfloat16", torch.bfloat16, _COLOURS[2]),
        ("float16", torch.float16, _COLOURS[4]),
    ):
        phases.plot(ks, [experiments.phase_error(k, kind) for k in ks], label=name, color=colour)
    phases.axhline(np.pi, color="grey", linewidth=0.8, linestyle=":")
    phases.set_yscale("log")
    phases.legend(fontsize=7)
    phases.set_title("error of the phase of 2^k pi d, radians,\nagainst k (dotted: pi, nothing left)", fontsize=8)
    for axes in (by_views, by_scale, phases):
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    return small_png(figure)


def draw_failures(data: Data) -> bytes:
    """The rendered person with the largest error of each kind."""
    predictions = predict(data.shown, data.network, labels=data.shown_labels)
    truth, bodies = predictions.truth, predictions.predicted[KNOWN]
    parts = [part["joints_m"][:, _LIMBS].astype(np.float64) for part in (bodies, truth)]
    error, _ = errors_by_frame(*parts)
    difference = centred_on_hips(parts[0]) - centred_on_hips(parts[1])
    sight = truth["pelvis_m"] / np.linalg.norm(truth["pelvis_m"], axis=-1, keepdims=True)
    along = np.square(np.einsum("njc,nc->nj", difference, sight)).sum(1) / np.square(difference).sum((1, 2))
    expected = bodies["sigma_m"].mean(1)
    shown = truth["found"] > 0
    whole = truth["truncated"] < 0.01
    kinds = {
        "cut off": truth["truncated"] >= 0.25,
        "hidden": whole & (truth["visible"] < 0.7),
        "lying or bent": np.isin(predictions.family, ("lying", "bent")),
        "along the line of sight": whole & (along > 0.8) & (truth["visible"] > 0.9),
        "wrong but sure of itself": expected < np.quantile(expected[shown], 0.5),
        "small": whole & (truth["base_px"][:, 2] < 180),
    }
    rows: dict[str, int] = {}
    for kind, mask in kinds.items():
        left = [row for row in np.argsort(-error, kind="stable").tolist() if shown[row] and mask[row] and row not in rows.values()]
        rows |= {kind: left[0]} if left else {}
    cases = worst_synthetic(predictions, data.shown_labels, list(rows.values()))
    named = [replace(case, title=f"{kind}: {case.title.split(': ')[-1]}") for kind, case in zip(rows, cases, strict=True)]
    drawn = Image.open(io.BytesIO(draw_cases(named))).convert("RGB")
    return small_jpeg(drawn.resize((drawn.width * 3 // 4, drawn.height * 3 // 4), Image.Resampling.LANCZOS))


FIGURES: Mapping[str, Callable[[Data], bytes]] = {
    "crops.png": draw_crops,
    "attention.png": draw_attention,
    "cameras.png": draw_cameras,
    "twins.png": draw_twins,
    "measured.png": draw_measured,
    "failures.jpg": draw_failures,
}


def small_png(figure: Figure) -> bytes:
    """PNG with a palette as large as the limit allows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    picture = Image.open(buffer).convert("RGB")
    for colours in (256, 128, 64, 32, 16):
        small = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        if small.tell() <= LARGEST_PICTURE_BYTES:
            break
    return small.getvalue()


def _bare(axes: Any, colour: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor(colour)
        spine.set_linewidth(1.6)


if __name__ == "__main__":
    main()
