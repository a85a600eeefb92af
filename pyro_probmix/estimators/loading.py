"""Reading fitted estimators from disk: the file says of which kind one is, and the kinds stand in one table."""

from __future__ import annotations

import os

from pyro_probmix.arguments import checked
from pyro_probmix.estimators.base import ProbMixEstimator
from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.estimators.ensemble.network import Encoder, Likelihood
from pyro_probmix.estimators.regressor import ProbMixRegressor
from pyro_probmix.estimators.saving.files import putting_together, read

__all__ = ["KINDS", "load"]

#: Name in a file -> the estimator. A line here is all that a new one needs.
KINDS: dict[str, type[ProbMixEstimator]] = {cls.__name__: cls for cls in (ProbMixRegressor, ProbMixClassifier)}


@checked()
def load(
    path: str | os.PathLike[str], *, encoder: Encoder | None = None, likelihood: Likelihood | None = None
) -> ProbMixEstimator:
    """Reads an estimator that :meth:`~pyro_probmix.ProbMixRegressor.save` wrote; its predictions are the same, bit for bit.

    A file holds numbers and settings alone. Code of a user's own is never taken from it; it is given again. So a file from
    an untrusted source runs no code. Each of its fields is checked before anything is built, and it asks for memory and time in
    proportion to its own size. What it can do is predict whatever its maker likes: its seal finds damage, and is no
    signature.

    Args:
        path: of the file.
        encoder, likelihood: those with which the estimator was made, if it was made with its own.

    Raises:
        ValueError: if there is no such file, it is damaged, of a newer version or something else's, or code that it needs
            is not given.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pyro_probmix import ProbMixRegressor, load
        >>> X = np.linspace(-1, 1, 50)[:, None]
        >>> model = ProbMixRegressor(ensemble=2, epochs=2, random_state=0).fit(X, X[:, 0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.safetensors")
        ...     again = load(f"{folder}/model.safetensors")
        >>> bool((again.predict(X) == model.predict(X)).all())
        True
    """
    saved = read(path, {"encoder": encoder, "likelihood": likelihood})
    with putting_together(path):
        if saved.kind not in KINDS:
            raise ValueError(f"it is a {saved.kind!r}, expected one of {', '.join(KINDS)}")
        return KINDS[saved.kind].restored(saved.parameters, saved.attributes, saved.state)
