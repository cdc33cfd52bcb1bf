"""Positions of COCO's five face keypoints on the free body: vertices of its skin.

The body has no joints for nose, eyes and ears. The free body has them at the vertex numbers that the `smplx` package uses for SMPL's mesh.
Limbs: `coco_points`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import BodyModel, skin

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = 332, 2800, 6260, 583, 4071
FACE_VERTICES = (NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR)
"""Vertices of COCO's keypoints 0 to 4, in COCO's order."""


@dataclasses.dataclass(frozen=True, eq=False)
class FacePoints:
    """The five points of a body, posed without the other vertices of its skin."""

    reduced: BodyModel
    """The body with five vertices and no triangles"""

    def place(self, rotations: NDArray, betas: NDArray, transl_m: NDArray) -> NDArray[np.float64]:
        """Compute the five points of posed bodies.

        Args:
            rotations: (n, 24, 3, 3), each relative to its parent, the root first.
            betas: (n, 10).
            transl_m: (n, 3) metres, as SMPL's `transl`.

        Returns:
            (n, 5, 3) metres, in the axes of the root rotation.
        """
        tensor = lambda array: torch.from_numpy(np.ascontiguousarray(array, np.float32))
        with torch.inference_mode():
            vertices, _ = skin(self.reduced, tensor(rotations), tensor(betas), tensor(transl_m))
        return vertices.double().numpy()


def face_points(body: BodyModel) -> FacePoints | None:
    """Points of the free body; None for any other, whose mesh may number its vertices differently."""
    if body.name != "free":
        return None
    index = torch.tensor(FACE_VERTICES, device=body.device)
    reduced = dataclasses.replace(
        body,
        v_template=body.v_template[index],
        shapedirs=body.shapedirs[index],
        posedirs=None if body.posedirs is None else body.posedirs[index],
        weights=body.weights[index],
        faces=np.zeros((0, 3), np.int64),
    )
    return FacePoints(reduced.to("cpu"))
