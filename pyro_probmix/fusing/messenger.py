"""The effect handler that pools the densities of rows at sites of a model, and perturbs the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_probmix.fusing.algorithms import LabelScores, called_from, refuse_step_without_gradients, scores_nothing
from pyro_probmix.fusing.edge_weights import WEIGHT_SITE, EdgeWeights, check_weight
from pyro_probmix.fusing.event_rows import EVENT_PLATE, checked_event_rows
from pyro_probmix.fusing.groups import Group, check_dim, group_of_response
from pyro_probmix.fusing.kernels.kernels import Kernel
from pyro_probmix.fusing.perturbation import Labels, LabelsOf, Perturbation, check_same_labels
from pyro_probmix.fusing.rows import Batch, Rows, find_rows, refuse_enumerated_rows
from pyro_probmix.fusing.sites import (
    Sites,
    check_met,
    checked_names,
    find_event_dim,
    is_response,
    point_of,
    refuse_factor,
    refuse_intervention,
    refuse_without_density,
    told,
)
from pyro_probmix.pooling import pool_rows
from pyro_probmix.pooling.pools import mask_rows
from pyro_probmix.pooling.simplex import Weight

__all__ = ["FuseMessenger", "Pool"]

Pool = Literal["log-linear", "linear"]


class FuseMessenger(Messenger):
    r"""Replaces the density at each site of ``at`` by its pool with the densities of the row's partners.

    In a batch of :math:`B` rows the partner of row :math:`b` is row :math:`b + B/2 \pmod B`, so the network is evaluated
    once per row.

    Args:
        add_unfused_rows: whether the rows of the second half of each part are not fused: each stands for itself, at its own
            label.
        batch: what is known of the rows' plate; None for no more than ``plate``.
        at, weight, num_fused, pool, beta, kernel, labels, plate, rows_in_event, weight_plates, keep_labels, one_weight: see
            :func:`~pyro_probmix.fuse`.
    """

    def __init__(
        self,
        at: str | Sequence[str],
        *,
        weight: Weight | Sequence[Any],
        num_fused: int = 2,
        pool: Pool = "log-linear",
        beta: float | Tensor = 0.0,
        kernel: Kernel | None = None,
        labels: Labels = "sample",
        plate: str | Sequence[str] | None = None,
        rows_in_event: int | None = None,
        weight_plates: Sequence[str] = (),
        keep_labels: Sequence[str] = (),
        one_weight: bool = False,
        add_unfused_rows: bool = False,
        batch: Batch | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(pool, str) or pool not in ("log-linear", "linear"):
            raise ValueError(f"fuse got pool={pool!r}, expected 'log-linear' or 'linear'. Try pool='log-linear'.")
        self.sites = Sites(at)
        plates = checked_names("weight_plates", weight_plates)
        self.weights = EdgeWeights(weight, num_fused, plates, one_weight=one_weight)
        self.num_fused = num_fused
        self.pool: Pool = pool
        self.perturbation = Perturbation(beta, kernel, labels)
        self.event_rows = checked_event_rows(rows_in_event, plate)
        if self.event_rows is not None:
            plate = EVENT_PLATE
        self.batch = Batch(checked_names("plate", plate)) if batch is None else batch
        self.keep_labels = checked_names("keep_labels", keep_labels)
        self.add_unfused_rows = add_unfused_rows
        self._forget()

    def _forget(self) -> None:
        self._groups: dict[str, Group] = {}  # of fused sites, by the plate of their rows
        self._embedded: set[str] = set()  # those plates in which a site is fused that is no response
        self._responses: set[str] = set()  # observed within this handler
        self._perturbed: set[str] = set()
        self._scores = LabelScores()
        self._outside: list[str] = []  # responses that were observed outside of this handler
        self._seen: list[str] = []
        # Name and mask of the site that is met, and of those that are drawn meanwhile; None for weights.
        self._met: list[tuple[str, Any] | None] = []
        self._plates: set[str] = set()  # of fused sites
        self._enumerated: list[dict[str, Any]] = []

    def __enter__(self) -> FuseMessenger:
        refuse_step_without_gradients()
        self._forget()
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        missing = self.sites.missing(self._seen)
        seen, plates, responses, outside = self._seen, sorted(self._plates), self._responses, self._too_late()
        self._forget()
        if exc_type is not None:
            return
        if missing is not None:
            raise ValueError(
                f"fuse(at={missing!r}) met no such sample site; the model has the sites "
                f"{', '.join(map(repr, seen)) or 'none'}. Try one of these as `at`."
            )
        check_met("weight_plates", self.weights.plates, plates, "plates of the fused sites")
        if responses:  # some models have others when they predict
            check_met("keep_labels", self.keep_labels, seen, "sites")
        if outside is not None:
            # A handler outside this one acts after it, when the labels can no longer be perturbed.
            raise ValueError(
                f"site {outside!r} was observed outside fuse(at={self.sites}), expected inside, where its labels are "
                "perturbed. Try fuse(poutine.condition(model, data), ...)."
            )

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        if "fused_weight" in msg["infer"]:
            self._meet_weight(msg)
            self._met.append(None)
            return
        if msg["name"] == WEIGHT_SITE and self.weights.is_random:
            self._refuse_name()
        self._change(msg)
        self._scores.weigh(msg, self._enumerated)
        self._met.append((msg["name"], msg["mask"]))

    def _change(self, msg: Any) -> None:
        """Fuses the density of a site, or perturbs its labels, or both."""
        is_fused, responds = self.sites.match(msg["name"]), is_response(msg)
        if responds:
            self._responses.add(msg["name"])
        if is_fused:
            refuse_without_density(msg, self._seen)
        elif not responds or not self._embedded or msg["name"] in self.keep_labels:
            return
        else:
            self._refuse_labels_of_factor(msg)
        site = msg if self.event_rows is None else self.event_rows.in_plate(msg)
        group = self._fuse(site) if is_fused else group_of_response(site, self._groups, self._embedded, self.sites)
        if responds:
            self._perturb_labels(site, group, is_fused)
        if self.event_rows is not None:
            self.event_rows.put_back(site, msg)

    def _refuse_labels_of_factor(self, msg: Any) -> None:
        reason = f"after the fused {self.sites}, whose labels fuse cannot perturb"
        refuse_factor(msg, reason, f", or keep_labels=[{msg['name']!r}], if it has no labels")

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] == WEIGHT_SITE and self.weights.is_random:
            self._refuse_name()

    def _meet_weight(self, msg: Any) -> None:
        """Puts the weights' site into its plates; that of another handler has to be of the same distribution."""
        if self.weights.is_drawing:
            self.weights.leave_plates(msg)
        elif self.weights.is_random and msg["infer"]["fused_weight"] is not self.weights.given:
            raise ValueError(
                f"two handlers draw the weight {msg['name']!r} from two distributions, expected one that they share. "
                "Try fuse(model, at=('y', 'c'), ...), or the same distribution object as the weight of both."
            )

    def _refuse_name(self) -> None:
        raise ValueError(
            "the model has a site 'lambda' of its own, as fuse(weight=...) names the weight it draws, expected another name. "
            "Try 'rate', or whatever it stands for."
        )

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        met = self._met.pop()
        if met is None:
            return
        name, mask = met  # handlers outside may have renamed and masked it since
        self._seen.append(name)
        if msg["infer"].get("_enumerate_dim") is not None or msg["infer"].get("enumerate") == "sequential":
            self._enumerated.append(msg)
        if name in self._perturbed:
            is_masked = isinstance(msg["mask"], Tensor) and msg["mask"] is not mask and msg["mask"].numel() > 1
            if is_masked and not scores_nothing():
                raise ValueError(
                    f"site {name!r} was masked outside fuse(at={self.sites}), where the partners' rows cannot be "
                    "masked too, expected inside. Try fuse(poutine.mask(model, mask), ...)."
                )
        elif self._groups and name not in self._responses and is_response(msg) and name not in self.keep_labels:
            # A response whose labels came too late to be perturbed.
            groups = self._groups if self.sites.match(name) else self._embedded
            if EVENT_PLATE in groups or any(frame.name in groups for frame in msg["cond_indep_stack"]):
                self._outside.append(name)

    def _too_late(self) -> str | None:
        """A response whose labels came too late, once the whole model has run."""
        # A fused latent whose value is given is none, beside a response that is perturbed.
        outside = [name for name in self._outside if not (self.sites.match(name) and self._perturbed)]
        # A potential energy conditions on all latents, and predictions on those of a guide.
        if not outside or called_from("pyro.infer.mcmc") or scores_nothing():
            return None
        return outside[0]

    def _fuse(self, msg: Any) -> Group:
        name = msg["name"]
        rows = find_rows(msg, self.batch, self.num_fused, self.add_unfused_rows)
        if msg["infer"].get("_deterministic", False):
            find_event_dim(msg, rows)
        msg["fn"] = rows.batched(msg)
        refuse_enumerated_rows(msg, rows, self._enumerated)
        refuse_intervention(msg, rows)
        group = self._group_of_rows(msg, rows)
        with told(f"site {name!r} cannot be fused"):
            fused = pool_rows(
                msg["fn"], group.weights, shift=rows.shift, dim=rows.dim, pool=self.pool, num_fused=self.num_fused
            )
        msg["fn"], msg["infer"]["_fused"] = fused, True
        group.mask_partners(msg, self.num_fused)
        if msg["infer"].get("_deterministic", False):
            msg["value"] = point_of(name, fused)
        if not is_response(msg):
            self._embedded.add(rows.plate)
            if not msg["is_observed"]:
                msg["infer"]["embedding"] = True  # the criteria draw several of these for one weight
        return group

    def _group_of_rows(self, msg: Any, rows: Rows) -> Group:
        """The edges and weights of a fused site: those of its plate, which are drawn at the first fused site in it."""
        self._plates.update(frame.name for frame in msg["cond_indep_stack"])
        group = self._groups.get(rows.plate)
        if group is None:
            sharing: list[Any] = [handler for handler in _PYRO_STACK if self._shares_weights(handler)]
            drawn = [handler._groups for handler in sharing if handler._groups]  # by this one too
            site = f"{WEIGHT_SITE}_{rows.plate}" if drawn else WEIGHT_SITE
            shared = next((own[rows.plate] for own in drawn if rows.plate in own), None)
            if shared is not None:
                check_dim(msg["name"], shared, rows.dim)
            group = self.weights.group(msg, rows, site, None if shared is None else shared.drawn)
            self._groups[rows.plate] = group
            if shared is None:
                return group
        check_dim(msg["name"], group, rows.dim)
        missing = group.plates - {frame.name for frame in msg["cond_indep_stack"]}
        if missing:
            raise ValueError(
                f"site {msg['name']!r} is not in the plate {min(missing)!r}, over whose members the weight of the fused "
                f"{self.sites} varies, expected it in all plates of the weight. Try a weight that is the same for all."
            )
        check_weight(msg, group.batch)
        return group

    def _shares_weights(self, handler: Any) -> bool:
        """Whether a handler of the stack, this one or one around it or within it, draws its weights at the same sites."""
        if handler is self:
            return True
        nested = isinstance(handler, FuseMessenger) and self.weights.is_random
        return nested and handler.weights.given is self.weights.given and handler.num_fused == self.num_fused

    def _perturb_labels(self, msg: Any, group: Group, is_fused: bool) -> None:
        self._perturbed.add(msg["name"])
        labels = LabelsOf(self.weights.given, group.rows, self.perturbation)
        if "_labels_of" in msg["infer"]:  # by a handler within this one
            check_same_labels(msg["name"], labels, msg["infer"]["_labels_of"])
            return
        if not is_fused:
            rows = group.rows
            msg["fn"] = mask_rows(msg["fn"], group.weights, rows.shift, rows.dim, self.num_fused)
        # A linear pool of responses is a choice between them, so that their labels are not mixed either.
        linearly = self.pool == "linear" and is_fused and group.rows.plate not in self._embedded
        self.perturbation(msg, group.site, group.plates, group.rows, group.weights, self._scores, linearly)
        if not is_fused:
            group.mask_partners(msg, self.num_fused)
        msg["infer"]["_labels_of"] = labels
