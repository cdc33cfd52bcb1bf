"""A standing figure as COCO keypoints."""

from __future__ import annotations

import numpy as np

# A standing person, x right and y down, one unit from nose to ankles; COCO's order.
FIGURE = np.array(
    [
        [0.00, 0.00], [0.02, -0.02], [-0.02, -0.02], [0.05, -0.01], [-0.05, -0.01], [0.12, 0.15], [-0.12, 0.15], [0.16, 0.33],
        [-0.17, 0.32], [0.18, 0.50], [-0.19, 0.48], [0.07, 0.48], [-0.07, 0.48], [0.08, 0.75], [-0.09, 0.74], [0.08, 1.00], [-0.10, 0.99],
    ]
)  # fmt: skip
