"""The generative process: an edge of a graph over the data, a weight, a fused density, perturbed labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import pyro
import torch
from pyro.poutine.indep_messenger import IndepMessenger
from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.fusing.exposure import expose_parameters
from pyro_probmix.fusing.guides import PriorGuide
from pyro_probmix.fusing.kernels.kernels import Kernel
from pyro_probmix.fusing.messenger import FuseMessenger, Pool
from pyro_probmix.fusing.perturbation import Labels
from pyro_probmix.fusing.rows import Batch
from pyro_probmix.fusing.sites import checked_names
from pyro_probmix.graphs import CompleteGraph, Graph
from pyro_probmix.models.orders import shuffled_rows
from pyro_probmix.models.replica_rows import ReplicaRows, take
from pyro_probmix.models.scaling import ScaledRows
from pyro_probmix.models.similarity import EdgeAlpha, ends_of
from pyro_probmix.pooling.simplex import SymmetricDirichlet
from pyro_probmix.pooling.weights import Beta

__all__ = ["ProbMix"]

#: Marks the edges for the criteria: all particles share them, so that the network is evaluated once for all.
_SHARED: Any = {"shared": True}
#: The plate of a density with replicas, at dim=-2.
_REPLICAS = "replica"


class ProbMix(ReplicaRows):
    r"""ProbMix as a Pyro model of a whole data set, with a guide that draws its latents from their prior.

    .. math::
        (i, j) \sim \mathcal{G}, \quad \lambda \sim \mathrm{Beta}(\alpha, \alpha), \quad
        \tilde y \sim g^y_\lambda(s_\beta(\cdot \mid y_i), s_\beta(\cdot \mid y_j)), \quad
        \tilde y \sim g_\lambda(p_\theta(\cdot \mid x_i), p_\theta(\cdot \mid x_j))

    at the sample sites ``"edge"``, ``"lambda"``, the fused one and the response. A step evaluates the density at B rows, the
    two ends of B/2 edges; each edge counts twice, seen from both ends with a weight of its own.

    Args:
        density: a Pyro model ``density(x, y)`` with a plate of rows, for example a :class:`ConditionalDensity`.
        at: the site to fuse at, ``"x"`` (mixup), ``"z"`` (at an embedding) or ``"y"`` (at the response) of a
            :class:`ConditionalDensity`, or several sites, see :func:`~pyro_probmix.fuse`; None fuses nothing, which is
            maximum likelihood (ERM).
        graph: the graph over the n rows; None is the complete one.
        alpha: all shapes of the Beta or Dirichlet distribution of the weights, above 0; with replicas also a tensor [R]. Or a
            function that gives the shape for each edge, such as a :class:`~pyro_probmix.models.similarity.SimilarityKernel`:
            from the inputs of its two ends, and their responses or None, [..., E, d] each, to [..., E]. There responses
            that are integers are classes; counts, which have a dim of their own, are real numbers.
        beta: spread of the label kernels, at least 0; with replicas also a tensor [R].
        pool: ``"log-linear"`` or ``"linear"``.
        kernel, labels, weight_plates, keep_labels, one_weight: see :func:`~pyro_probmix.fuse`. Each replica has weights of
            its own.
        batch_size: B, rows of a step, even (a multiple of k); None takes all n (and some twice, if n is none).
        num_fused: k, the rows that are fused, at least 2.
        plate: name of the rows' plate, or names of several; by default the one with as many members as a step has rows.
        add_unfused_rows: whether the likelihood of the minibatch's rows themselves, whose densities are not fused and whose
            labels are not perturbed, is added to that of the edges. (A ``kernel`` of your own perturbs these labels too,
            with all weight on each row's own.)

    Shape:
        x [n, ...] and y [n, ...]; with replicas also [R, n, ...], the rows of each replica. Where n or the size of a row is R
        too, the ``event_dim`` of the density tells the two apart, else the sizes of x and y together.

    Raises:
        ValueError: for alpha <= 0, beta < 0, a graph that is none, an odd batch size (no multiple of k),
            ``add_unfused_rows`` where nothing is fused, or data that do not fit the graph, or whose shapes do not tell whether
            they are those of each replica.

    References:
        El-Laham et al. (2025), eq. (11) to (14), (20) to (22). Pinto et al. (2022), Using Mixup as a Regularizer Can
        Surprisingly Improve Accuracy & Out-of-Distribution Robustness.

    Example:
        >>> import pyro, torch
        >>> from pyro_probmix import ProbMix
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> _ = pyro.set_rng_seed(0)
        >>> density = build_density(METHODS["M-ProbMix"], num_features=1, likelihood=Gaussian, widths=(16, 8))
        >>> model = ProbMix(density, at="z", alpha=0.1)
        >>> svi = pyro.infer.SVI(model, model.guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> losses = [svi.step(x, x**3) for _ in range(200)]
        >>> losses[-1] < losses[0]
        True
    """

    alpha: Tensor
    beta: Tensor

    @checked()
    def __init__(
        self,
        density: nn.Module,
        *,
        at: str | Sequence[str] | None,
        graph: Graph | None = None,
        alpha: float | Tensor | EdgeAlpha = 0.1,
        beta: float | Tensor = 0.0,
        pool: Pool = "log-linear",
        kernel: Kernel | None = None,
        labels: Labels = "sample",
        batch_size: int | None = None,
        num_fused: int = 2,
        plate: str | Sequence[str] | None = None,
        add_unfused_rows: bool = False,
        weight_plates: Sequence[str] = (),
        keep_labels: Sequence[str] = (),
        one_weight: bool = False,
    ) -> None:
        super().__init__()
        self.density = density
        self.at = at if isinstance(at, str | None) else list(checked_names("at", at))
        self.graph = graph
        self.replicas: int | None = getattr(density, "replicas", None)
        _check_arguments(num_fused, batch_size, add_unfused_rows=add_unfused_rows, at=at)
        self.batch_size = batch_size
        self.num_fused = num_fused
        self.plates = checked_names("plate", plate)
        self.add_unfused_rows = add_unfused_rows
        self._alpha_of: EdgeAlpha | None = alpha if callable(alpha) else None
        if self._alpha_of is not None and (num_fused > 2 or one_weight or at is None):
            raise ValueError(
                "ProbMix got a function as alpha, a shape for each edge of two rows, expected num_fused=2, one_weight=False "
                "and a site that is fused. Try alpha=0.1."
            )
        alpha = self._per_replica("alpha", 1.0 if callable(alpha) else alpha)
        beta = self._per_replica("beta", beta)
        if not bool(((alpha > 0) & alpha.isfinite()).all()):
            raise ValueError(f"ProbMix got alpha={alpha.tolist()}, expected finite values above 0. Try alpha=0.1.")
        if not bool(((beta >= 0) & beta.isfinite()).all()):
            raise ValueError(f"ProbMix got beta={beta.tolist()}, expected finite values of at least 0. Try beta=0.0.")
        self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("beta", beta, persistent=False)
        # A scalar stays a float: the kernels know the Dirac limit by it without looking at a tensor's values.
        self._scalar_beta = float(beta) if beta.dim() == 0 else None
        self._fusion: dict[str, Any] = {
            "pool": pool, "kernel": kernel, "labels": labels, "num_fused": num_fused, "add_unfused_rows": add_unfused_rows,
            "weight_plates": checked_names("weight_plates", weight_plates),
            "keep_labels": checked_names("keep_labels", keep_labels),
            "one_weight": one_weight,
        }  # fmt: skip
        self._made: tuple[FuseMessenger, Any, Tensor, float | Tensor] | None = None
        if at is not None:
            self._handler(None)  # refuses options that are not there now, not at the first step

    def _per_replica(self, name: str, value: float | Tensor) -> Tensor:
        value = torch.as_tensor(value, dtype=torch.get_default_dtype())
        if value.dim() == 0:
            return value
        if value.shape != (self.replicas,):
            raise ValueError(
                f"ProbMix got {name} of shape {tuple(value.shape)}, expected a number or one for each replica, "
                f"({self.replicas},). Try {name}=0.1."
            )
        return value[:, None]

    def __getstate__(self) -> dict[str, Any]:
        """The process without the last step's handler, whose tensors a traced step made, or one of given buffers."""
        return self.__dict__ | {"_made": None}

    @property
    def guide(self) -> PriorGuide:
        """Draws the edges, weights and embeddings from their prior."""
        return PriorGuide(self)

    def forward(
        self, x: Tensor, y: Tensor | None = None, rows: Tensor | None = None, num_rows: int | None = None
    ) -> Any:
        """Runs the process on the data set.

        Args:
            x, y: all rows, see above.
            rows: a shuffled minibatch, indices [B], with replicas [R, B]; the edges are then those of these rows
                (see :meth:`~pyro_probmix.graphs.graphs.Graph.edges`), which varies less than independent draws. None draws
                B/k edges independently, or B rows if nothing is fused.
            num_rows: of the data set, of which x and y hold a part; None if they hold it all.
        """
        expose_parameters(self)
        n = self.num_rows(x, y)
        batch_size = -(-n // self.num_fused) * self.num_fused if self.batch_size is None else self.batch_size
        if self.at is None:
            if rows is None:
                rows = shuffled_rows(n, batch_size, self.replicas, x.device)
            return self._run(x, y, rows, num_rows or n, None)
        edge = self._draw_edges(n, batch_size // self.num_fused, rows)
        parts = edge.mT  # [..., k, E]
        if self.add_unfused_rows:  # behind each part as many rows that are not fused, those of the minibatch
            if rows is None:
                rows = shuffled_rows(n, batch_size, self.replicas, x.device)
            parts = torch.cat([parts, rows.expand(*parts.shape[:-2], -1).reshape(parts.shape)], -1)
        alpha = None if self._alpha_of is None else self._alpha_of_rows(edge, parts.shape[-1], x, y)
        return self._run(x, y, parts.flatten(-2), num_rows or n, self._handler(parts.shape[-1] * self.num_fused, alpha))

    def batch(self, size: int | None) -> Batch:
        """Name, size and dimension of the rows' plate."""
        return Batch(self.plates, size, None if self.replicas is None else _REPLICAS)

    def _alpha_of_rows(self, edge: Tensor, size: int, x: Tensor, y: Tensor | None) -> Tensor:
        """The shape of each row's weight, [..., B], that of its edge; rows that are not fused have any."""
        assert self._alpha_of is not None
        of_x, of_y = self.of_each_replica(x, y)
        alpha = self._alpha_of(ends_of(x, edge, of_x), None if y is None else ends_of(y, edge, of_y))
        if alpha.shape != edge.shape[:-1]:
            raise ValueError(
                f"the function that ProbMix got as alpha gave shape {tuple(alpha.shape)}, expected one number for each edge, "
                f"{tuple(edge.shape[:-1])}. Try a sum over the last dim."
            )
        unfused = size - alpha.shape[-1]
        if unfused:
            alpha = torch.cat([alpha, alpha.new_ones(*alpha.shape[:-1], unfused)], -1)
        return torch.cat([alpha, alpha], -1)

    def _handler(self, size: int | None, alpha: Tensor | None = None) -> FuseMessenger:
        """The handler of a step: that of the last one, unless the sites, the rows or a tensor is another since."""
        assert self.at is not None
        is_kept = alpha is None  # one for each edge is of this step alone, with a graph that cannot be copied
        alpha = self.alpha if alpha is None else alpha
        beta = self.beta if self._scalar_beta is None else self._scalar_beta
        place = self.at if isinstance(self.at, str) else tuple(self.at), self.batch(size)
        if self._made is not None:
            handler, *made_for = self._made
            if made_for[0] == place and made_for[1] is alpha and made_for[2] is beta:
                return handler
        # A shape that is changed in place counts, too: both distributions look at it when they draw.
        weight: Any = Beta(alpha, alpha) if self.num_fused == 2 else SymmetricDirichlet(alpha, self.num_fused)
        options = self._fusion
        if self.replicas is not None:
            options = options | {"weight_plates": (_REPLICAS, *options["weight_plates"])}
        handler = FuseMessenger(self.at, weight=weight, beta=beta, batch=place[1], **options)
        if is_kept:
            self._made = handler, place, alpha, beta
        return handler

    def _draw_edges(self, n: int, num_edges: int, rows: Tensor | None) -> Tensor:
        graph = _complete_graph(n) if self.graph is None else self.graph
        edges = graph.edges(rows, self.num_fused)
        num_edges = num_edges if rows is None else rows.shape[-1] // self.num_fused
        # The density declares the plate of the replicas; a second declaration of it would be a second site of that name. No
        # pair is left out, so that theirs needs no site, either.
        replicas = nullcontext() if self.replicas is None else IndepMessenger(_REPLICAS, self.replicas, -2)
        with replicas, IndepMessenger("pairs", num_edges, -1):
            shape = (num_edges,) if self.replicas is None else (self.replicas, num_edges)
            if edges.batch_shape != shape:
                edges = edges.expand(shape)
            edge: Tensor = pyro.sample("edge", edges, infer=_SHARED)
        return edge

    def _run(self, x: Tensor, y: Tensor | None, rows: Tensor, n: int, handler: FuseMessenger | None) -> Any:
        of_each = self.of_each_replica(x, y)
        x_rows, y_rows = take(x, rows, of_each[0]), None if y is None else take(y, rows, of_each[1])
        size = rows.shape[-1]
        # With unfused rows, half of them stand for all n, and the other half once more.
        with ScaledRows(n / size * (2 if self.add_unfused_rows else 1), self.batch(size)):
            if handler is None:
                return self.density(x_rows, y_rows)
            with handler:
                return self.density(x_rows, y_rows)


@lru_cache(maxsize=64)
def _complete_graph(num_rows: int) -> CompleteGraph:
    """The same graph in each step, whose arguments are checked once."""
    return CompleteGraph(num_rows)


def _check_arguments(num_fused: int, batch_size: int | None, *, add_unfused_rows: bool, at: object) -> None:
    """Raises ValueError for a process that cannot be."""
    if num_fused < 2:
        raise ValueError(f"ProbMix got num_fused={num_fused!r}, expected an integer of at least 2. Try num_fused=2.")
    if batch_size is not None and (batch_size < num_fused or batch_size % num_fused):
        parts = (
            "an even number of rows, two halves" if num_fused == 2 else f"a multiple of {num_fused} rows, equal parts"
        )
        raise ValueError(
            f"ProbMix got batch_size={batch_size}, expected {parts} that are each other's partners. "
            f"Try {-(-32 // num_fused) * num_fused}."
        )
    if add_unfused_rows and at is None:
        raise ValueError(
            "ProbMix got add_unfused_rows=True and at=None, expected a site that is fused beside the rows' own likelihood. "
            "Try at='x'."
        )
