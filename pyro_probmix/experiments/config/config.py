"""A run's configuration: one flat record, with the paper's choices as the defaults of each experiment."""

from __future__ import annotations

import json
import os
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pyro_probmix.names import printable, shown

__all__ = ["EXPERIMENTS", "OF_SETTINGS", "PAPER", "PROVENANCE", "Config", "read_config", "with_setting"]

#: The keys of a run's ``config.json`` beside its configuration: where, with which versions and from which file it ran.
PROVENANCE = ("ran_on", "choices", "methods_in_full", "versions", "sha256")


@dataclass(frozen=True)
class Config:
    """The configuration of a run: everything that its numbers depend on; ``config.json`` holds all of it.

    Attributes:
        experiment: a name in ``EXPERIMENTS``.
        dataset: the data set; for ``uci`` and ``stocks`` also several, separated by commas; for ``table`` a scikit-learn set
            or the path of a file.
        target: the target column of a file, or several, separated by commas.
        task: ``"regression"`` or ``"classification"``; None chooses by the target.
        methods: names in ``METHODS``; none is replaced by all that the experiment compares.
        splits: the seeds, or numbers of the published splits.
        chunk: how many splits train together, and so share a stream of random numbers; None for all.
        epochs: passes over the training rows.
        patience: a job ends where none of its replicas had a better validation NLL for so many epochs; None for never.
        learning_rate: of Adam.
        batch_size: rows of a step, even; None for all.
        network: ``"mlp"``; for ``stocks`` ``"lstm"``, ``"transformer"``, or both with a comma between.
        widths: widths of the hidden layers.
        mixing_layer: the layer whose activations are the embedding, from 1.
        activation: a name in ``ACTIVATIONS``.
        dropout: probability of dropping a hidden unit.
        alpha: both parameters of the Beta distribution of the mixing weight.
        beta: spread of the label kernels, on the standardised target; None is 0 in regression, 0.01 for classes.
        graph: the graph of all methods that have one; None is the default graph of each method.
        neighbors: K of the neighbour graph.
        bandwidth: of the label-kernel graph, in standardised units.
        criterion: ``"expected"``, ``"log-expected"``, ``"beta-nll"`` or ``"crps"``.
        particles: K of the criterion.
        labels: ``"sample"`` or ``"expected"``; None is the expectation for classes at beta = 0, where the pooled
            kernels are degenerate, and draws elsewhere.
        num_samples: draws of an embedding in a prediction.
        validation_samples: the same in the validation NLL of each epoch.
        targets: ``"standardised"`` by the rows trained on, or ``"raw"``, in their own units; of a regression.
        scale: the map from the network's output to a standard deviation, a name in ``SCALES``: of the Gaussian likelihood and
            of a drawn embedding.
        scale_floor: what is added to both, at least 0.
        scale_start: what is added to the output that gives an embedding's standard deviation, before the map.
        before_activation: whether the embedding is what comes into the mixing layer's activation, not what comes out.
        variance_layers: further hidden layers of the network that gives an embedding's standard deviation.
        best_epoch: which epoch's weights are scored: ``"validation"``, the one with the lowest validation NLL, ``"last"``, or
            ``"both"``, under two settings.
        weight: whether each ``"pair"`` has a mixing weight of its own, or all pairs of a ``"batch"`` have one.
        labelled_rows: so many rows of a table train and validate, together; None for all.
        label_noise: of a regression, noise on their targets, in standard deviations of the targets that are trained on.
        noise_df: degrees of freedom of Student's t for that noise; None is a normal.
        shift: whether a table's test rows are those farthest along the inputs' first principal direction, of a random half of
            its rows for each split.
        setting: ``"fixed"`` takes alpha and beta, with any other entries. So does ``"paper"``, with the entries of ``PAPER`` as
            they are there, and ``"relative"``, for stocks, with prices as changes from the last close of their window; see
            :func:`with_setting`. ``"chosen"`` tries all pairs of ``alphas`` and ``betas`` (initial weights in the place of what
            a method does not use), and scores the one with the lowest validation NLL, mean over the splits that train
            together. ``"grid"`` scores each pair, as the setting "alpha=0.1 beta=0" and so on.
        alphas, betas: what the settings ``"chosen"`` and ``"grid"`` try.
        seed: of initial weights and training noise.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        data_dir: folder with the data sets; None downloads into the cache.
    """

    experiment: str
    dataset: str
    target: str | None = None
    task: str | None = None
    methods: tuple[str, ...] = ()
    splits: tuple[int, ...] = tuple(range(20))
    chunk: int | None = None
    epochs: int = 1000
    patience: int | None = None
    learning_rate: float = 0.005
    batch_size: int | None = 32
    network: str = "mlp"
    widths: tuple[int, ...] = (128, 32)
    mixing_layer: int = 1
    activation: str = "relu"
    dropout: float = 0.0
    alpha: float = 0.1
    beta: float | None = None
    graph: str | None = None
    neighbors: int = 5
    bandwidth: float = 1.0
    criterion: str = "expected"
    particles: int = 1
    labels: str | None = None
    num_samples: int = 100
    validation_samples: int = 8
    targets: str = "standardised"
    scale: str = "softplus"
    scale_floor: float = 1e-3
    scale_start: float = -3.0
    before_activation: bool = False
    variance_layers: int = 0
    best_epoch: str = "validation"
    weight: str = "pair"
    labelled_rows: int | None = None
    label_noise: float = 0.0
    noise_df: float | None = None
    shift: bool = False
    setting: str = "fixed"
    alphas: tuple[float, ...] = (0.01, 0.1, 1.0)
    betas: tuple[float, ...] = (0.0, 0.001, 0.01)
    seed: int = 0
    device: str = "auto"
    data_dir: str | None = None


_TOY = Config(
    experiment="toy-regression",
    dataset="toy-regression",
    splits=tuple(range(10)),
    epochs=500,
    learning_rate=0.01,
    batch_size=None,
    widths=(128, 64),
)

_ABLATION = replace(
    _TOY, experiment="ablation-regression", setting="grid", alphas=(0.01, 0.05, 0.1, 0.5, 1.0), betas=(0.0, 0.01)
)

#: Experiment -> its defaults, from sections 6.1 to 6.3 of the paper; ``table`` follows the UCI runs, but for the epochs.
EXPERIMENTS: dict[str, Config] = {
    "toy-regression": _TOY,
    "toy-classification": replace(_TOY, experiment="toy-classification", dataset="toy-classification"),
    "ablation-regression": _ABLATION,
    "ablation-classification": replace(_ABLATION, experiment="ablation-classification", dataset="toy-classification"),
    "uci": Config(experiment="uci", dataset="yacht"),
    "stocks": Config(
        experiment="stocks",
        dataset="GOOG,GME,NVDA,RCL",
        network="lstm,transformer",
        splits=tuple(range(10)),
        epochs=1500,
        learning_rate=0.0005,
        batch_size=64,
        widths=(64,),
    ),
    "table": Config(experiment="table", dataset="diabetes", splits=tuple(range(10)), epochs=200),
}


#: The setting "paper": choices of a regression by which the methods that the paper finds best lead, see ``docs/audit.md``.
PAPER: dict[str, Any] = {"targets": "raw", "scale": "exp", "scale_floor": 0.0, "scale_start": 0.0}
#: Setting -> the entries that its name stands for, in the results and in a report; the others leave all entries free.
OF_SETTINGS: dict[str, dict[str, Any]] = {"paper": PAPER, "relative": {"targets": "standardised"}}


def with_setting(config: Config, setting: str) -> Config:
    """A configuration under a setting: with what its name stands for, and without what that of its former one stood for.

    Example:
        >>> from pyro_probmix.experiments.config.config import EXPERIMENTS, with_setting
        >>> paper = with_setting(EXPERIMENTS["uci"], "paper")
        >>> paper.targets, with_setting(paper, "fixed") == EXPERIMENTS["uci"]
        ('raw', True)
    """
    defaults, former = EXPERIMENTS[config.experiment], OF_SETTINGS.get(config.setting, {})
    back = {name: getattr(defaults, name) for name, value in former.items() if getattr(config, name) == value}
    return replace(config, **{**back, **OF_SETTINGS.get(setting, {}), "setting": setting})


def read_config(path: str | os.PathLike[str]) -> Config:
    """The configuration in a file, as a run leaves it in ``config.json`` or as a user has edited it.

    What the file leaves out has the default of its experiment and setting; what a run records beside its configuration is
    ignored.

    Args:
        path: a JSON object of the attributes of :class:`Config`, ``experiment`` among them.

    Raises:
        ValueError: if there is no such file, or an entry in it is not a configuration's; the message names it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from pyro_probmix.experiments.config.config import read_config
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "wide.json"
        ...     written = path.write_text('{"experiment": "uci", "dataset": "energy", "widths": [256, 64]}')
        ...     config = read_config(path)
        >>> config.widths, config.epochs
        ((256, 64), 1000)
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(
            f"{shown(path)} cannot be read as a configuration ({reason}). Try the config.json of a run."
        ) from None
    experiment = record.get("experiment") if isinstance(record, dict) else None
    if not isinstance(experiment, str) or experiment not in EXPERIMENTS:
        raise ValueError(
            f"{shown(path)} names the experiment {shown(experiment)}, expected one of {', '.join(EXPERIMENTS)}. "
            "Try a copy of a run's config.json."
        )
    kinds = get_type_hints(Config)
    given: dict[str, Any] = {}
    for name, value in record.items():
        if name in PROVENANCE:
            continue
        if name not in kinds:
            raise ValueError(
                f"{shown(path)} holds {shown(name)}, expected only {', '.join(kinds)}. Try leaving it out."
            )
        try:
            given[name] = _as_kind(value, kinds[name])
        except TypeError:
            kind = str(kinds[name]).removeprefix("<class '").removesuffix("'>").replace("tuple", "list")
            raise ValueError(
                f"{shown(path)} has {printable(json.dumps(value))} for {name}, expected {kind.replace('None', 'null')}. "
                f"Try {json.dumps(_EXAMPLES[name])}."
            ) from None
    return replace(EXPERIMENTS[experiment], **{**OF_SETTINGS.get(given.get("setting", ""), {}), **given})


_EXAMPLES: dict[str, Any] = {
    one.name: getattr(EXPERIMENTS["uci"], one.name) if one.default is MISSING else one.default for one in fields(Config)
} | {"methods": ("ERM", "ProbMix"), "splits": (0, 1, 2)}


def _as_kind(value: Any, kind: Any) -> Any:
    """A value from JSON as the given type: a list as a tuple, a whole number as a float; raises TypeError for another type."""
    for one in get_args(kind) if isinstance(kind, UnionType) else (kind,):
        if get_origin(one) is tuple and isinstance(value, list):
            return tuple(_as_kind(element, get_args(one)[0]) for element in value)
        if one is float and type(value) is int:
            return float(value)
        if type(value) is one:
            return value
    raise TypeError
