"""Nearest neighbours in feature space: precision, recall, density, coverage and look-ups.

Distances are computed in blocks, and no matrix of all pairs is ever held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

_BLOCK = 1 << 22  # distances held at a time: 32 MiB
# What rounding may add to a distance near 0, in units of the largest norm. A distance d near it
# comes from d^2 = |a|^2 - 2ab + |b|^2 and errs by about sqrt(1e-16) of the norm.
_ROUNDING = 1e-6


class Balls:
    """The balls around images that reach to their k-th nearest other image, with `radii` by k.

    A ball holds its border, and images equal to its centre, so that ties come out the same whatever
    the rounding.

    Args:
        features: `(N, D)`.
        *ks: neighbours, each below N.
        centre: `(D,)`, subtracted before distances are taken, since these cancel badly far from 0;
            None: the mean.
    """

    def __init__(self, features: Tensor, *ks: int, centre: Tensor | None = None) -> None:
        assert max(ks) < len(features)
        self.features = features
        self.centre = features.double().mean(dim=0) if centre is None else centre
        points = self.points()
        blocks = (block for _, block in _distances(points, points))
        # + 1: an image is its own nearest
        nearest = torch.cat([block.topk(max(ks) + 1, largest=False).values for block in blocks])
        margin = _ROUNDING * points.square().sum(dim=1).max().sqrt()
        self.radii = {k: torch.hypot(nearest[:, k], margin) for k in ks}

    def points(self) -> Tensor:
        """Returns the centred features, float64 `(N, D)`."""
        return self.features.double() - self.centre


def neighbour_scores(
    real: Balls, fake_features: Tensor, *, precision_k: int, coverage_k: int
) -> dict[str, float]:
    r"""Compares N real images with M fake ones by the balls around both.

    - precision: share of fakes in any real ball (arXiv:1904.06991, eq. 1 and 2, which has k = 3);
    - recall: share of real images in any fake ball (the same);
    - density: real balls that hold a fake, mean over fakes, divided by k (arXiv:2002.09797, eq. 3,
      which has k = 5);
    - coverage: share of real balls that hold any fake (arXiv:2002.09797, eq. 4).

    All lie in [0, 1] but density, whose mean is 1 for two sets of one distribution.

    Args:
        real: of N images, with radii for both k.
        fake_features: `(M, D)`, M above `precision_k`.
        precision_k: k of precision and recall.
        coverage_k: k of density and coverage.
    """
    fake = Balls(fake_features, precision_k, centre=real.centre)
    fake_points, real_points = fake.points(), real.points()
    recalled = torch.zeros(len(real_points), dtype=torch.bool, device=real_points.device)
    covered = torch.zeros_like(recalled)
    precise = pairs = 0
    for rows, block in _distances(fake_points, real_points):
        in_fake = block <= fake.radii[precision_k][rows, None]  # (rows, N)
        recalled |= in_fake.any(dim=0)
        precise += int((block <= real.radii[precision_k]).any(dim=1).sum())
        in_real = block <= real.radii[coverage_k]
        covered |= in_real.any(dim=0)
        pairs += int(in_real.count_nonzero())
    return {
        "precision": precise / len(fake_points),
        "recall": recalled.double().mean().item(),
        "density": pairs / (coverage_k * len(fake_points)),
        "coverage": covered.double().mean().item(),
    }


def nearest(queries: Tensor, database: Iterable[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Finds the nearest neighbours of a few queries in a database that is read once, by batches.

    Args:
        queries: `(Q, D)`.
        database: batches `(B, D)`; each is read when its turn comes and then let go.
        k: how many.

    Returns:
        Indices, int64 `(Q, k)`, nearest first, and of equally near ones the first; and Euclidean
        distances, float64 `(Q, k)`, 0 for a copy.
    """
    queries = queries.double()
    distances = queries.new_empty(len(queries), 0)
    indices = torch.empty_like(distances, dtype=torch.int64)
    seen = 0
    for batch in database:
        # Differences, not products: exact for copies, and fast enough for a few queries.
        block = torch.cdist(queries, batch.to(queries), compute_mode="donot_use_mm_for_euclid_dist")
        positions = torch.arange(seen, seen + len(batch), device=queries.device)
        candidates = torch.cat([indices, positions.expand(len(queries), -1)], dim=1)
        distances, order = torch.cat([distances, block], dim=1).sort(dim=1, stable=True)
        distances, indices = distances[:, :k].clone(), candidates.gather(1, order[:, :k])
        seen += len(batch)
    return indices, distances


def _distances(rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yields blocks of rows of the matrix of Euclidean distances."""
    height = max(1, _BLOCK // len(columns))
    for begin in range(0, len(rows), height):
        block = slice(begin, min(begin + height, len(rows)))
        yield block, torch.cdist(rows[block], columns, compute_mode="use_mm_for_euclid_dist")
