"""The paper's two toy data sets: a cubic regression to extrapolate, and three noisy rings to classify."""

from __future__ import annotations

__all__ = ["toy_classification", "toy_regression"]

import numpy as np

from pyro_probmix.experiments.data.tables import FloatArray, Table

RADII = np.array([0.5, 1.5, 2.5])


def toy_regression(seed: int, n: int = 100, n_test: int = 1000) -> tuple[Table, Table]:
    r"""Draws :math:`y = x^3 + \varepsilon` with :math:`\varepsilon \sim \mathcal{N}(0, 9)`, to extrapolate.

    Training rows have :math:`x \sim \mathcal{U}(-4, 4)`, test rows :math:`x \sim \mathcal{U}(4, 6)`. The paper leaves
    the number of test rows open; 1000 make their sampling error small beside the spread over seeds.

    Args:
        seed: Of NumPy's generator; another seed is another training and test table.
        n: Training rows.
        n_test: Test rows.

    Returns:
        The training and the test table, `x` of shape `[n, 1]`, `y` of shape `[n]`.

    References:
        El-Laham et al., 2025, section 6.1, eq. (25).

    Example:
        >>> train, test = toy_regression(seed=0)
        >>> train.x.shape, test.y.shape
        ((100, 1), (1000,))
    """
    rng = np.random.default_rng(seed)

    def draw(low: float, high: float, rows: int) -> Table:
        x = rng.uniform(low, high, (rows, 1))
        return Table("toy-regression", x, x[:, 0] ** 3 + rng.normal(0.0, 3.0, rows))

    return draw(-4.0, 4.0, n), draw(4.0, 6.0, n_test)


def toy_classification(seed: int, n: int = 100, n_test: int = 1000) -> tuple[Table, Table]:
    r"""Draws three rings, :math:`x = r_k (\cos \omega, \sin \omega) + \varepsilon`.

    The class k sets the radius, 0.5, 1.5 or 2.5; the angle is uniform, and
    :math:`\varepsilon \sim \mathcal{N}(0, 0.09 I)`. The classes' sizes differ by one row at most. The paper leaves the
    number of test rows open.

    Args:
        seed: Of NumPy's generator; another seed is another training and test table.
        n: Training rows.
        n_test: Test rows, from the same distribution.

    Returns:
        The training and the test table, `x` of shape `[n, 2]`, `y` of shape `[n]` with classes 0 to 2.

    References:
        El-Laham et al., 2025, section 6.1, eq. (26).

    Example:
        >>> train, test = toy_classification(seed=0)
        >>> np.bincount(train.y)
        array([34, 33, 33])
    """
    rng = np.random.default_rng(seed)

    def draw(rows: int) -> Table:
        k = rng.permutation(np.arange(rows) % len(RADII))
        angle = rng.uniform(0.0, 2 * np.pi, rows)
        ring: FloatArray = RADII[k, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        names = tuple(f"ring {radius}" for radius in RADII)
        return Table(
            "toy-classification", ring + rng.normal(0.0, 0.3, (rows, 2)), k, task="classification", classes=names
        )

    return draw(n), draw(n_test)
