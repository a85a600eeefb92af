"""Digits of scikit-learn: a convolutional network fused at three sites, an autoencoder at its latent, into two pages of docs/.

python docs/digits.py            the pages' tables, from the numbers that are kept in results/digits
python docs/digits.py train 10   these numbers, with so many seeds, and the tables
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pyro_probmix import CompleteGraph, ProbMix, fit, fuse, predict
from pyro_probmix.calibration import class_log_score, expected_calibration_error
from pyro_probmix.experiments.report.claims.paired import of_mean
from pyro_probmix.experiments.report.claims.verdicts import LEVEL, holm
from pyro_probmix.graphs import Graph, NearestNeighborGraph
from pyro_probmix.models import Categorical, ConditionalDensity, GaussianEmbedding, PointEmbedding

TUTORIALS = Path(__file__).parent / "tutorials"
KEPT = Path(__file__).parents[1] / "results" / "digits"
END = "<!-- end -->"
TRAIN, VALIDATION, EPOCHS, BATCH, WIDTH = 300, 100, 50, 50, 64
SMOOTHED = "ERM, smoothed labels"
#: Method -> the fused site, whether the embedding is drawn, whether only neighbours are fused.
METHODS: dict[str, tuple[str | None, bool, bool]] = {
    "ERM": (None, False, False),
    "Mix": ("x", False, False),
    "M-Mix": ("z", False, False),
    "ProbMix": ("y", False, False),
    "M-ProbMix": ("z", True, False),
    "LocProbMix": ("y", False, True),
    "LocM-ProbMix": ("z", True, True),
    SMOOTHED: ("y", False, False),
}
#: Alpha of the mixing weights. Labels are mixed as they are, but for the method that fuses nothing, by weights of 0 and 1, and
#: has its labels smoothed by so much, the beta of the experiments on classes.
ALPHA, NO_ALPHA, SMOOTHING = 0.1, 1e-6, 0.01
LATENT, AUTOENCODER_STEPS, NOISE = 8, 1000, 0.2


def digits() -> tuple[Tensor, Tensor]:
    """The images, [1797, 8, 8], from 0 to 1, and their classes."""
    images, classes = load_digits(return_X_y=True)
    return torch.as_tensor(images / 16, dtype=torch.float32).unflatten(1, (8, 8)), torch.as_tensor(classes)


def dealt(seed: int) -> list[Tensor]:
    """Positions of the images that train, that validate and that test."""
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(seed))
    return [order[:TRAIN], order[TRAIN : TRAIN + VALIDATION], order[TRAIN + VALIDATION :]]


def encoder() -> nn.Module:
    """From images [..., B, 8, 8] to features [..., B, WIDTH]."""
    convolutions = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU())
    return nn.Sequential(nn.Unflatten(-2, (1, 8)), *convolutions, nn.Flatten(-3), nn.Linear(512, WIDTH), nn.ReLU())


def corruptions(x: Tensor) -> dict[str, Tensor]:
    """Test images as they are and spoilt in three ways."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    hidden = x.clone()
    hidden[:, 3:6, 2:5] = 0.0
    return {"clean": x, "noise": x + 0.3 * noise, "moved": x.roll(1, 2), "covered": hidden}


def classifier(name: str, seed: int, epochs: int = EPOCHS) -> dict[str, tuple[float, float, float]]:
    """Accuracy, NLL (nats) and calibration error of a method on each kind of test images."""
    site, drawn, near = METHODS[name]
    images, classes = digits()
    train, validation, test = dealt(seed)
    torch.manual_seed(seed)
    embedding = GaussianEmbedding(WIDTH) if drawn else PointEmbedding()
    decoder = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
    density = ConditionalDensity(encoder(), embedding, decoder, Categorical(WIDTH, 10), event_dim=2)
    graph: Graph = NearestNeighborGraph(images[train].flatten(1), 5) if near else CompleteGraph(len(train))
    alpha, beta = (NO_ALPHA, SMOOTHING) if name == SMOOTHED else (ALPHA, 0.0)
    edges = None if site is None else graph
    process = ProbMix(density, at=site, graph=edges, alpha=alpha, beta=beta, labels="expected", batch_size=BATCH)
    held_out = images[validation], classes[validation]
    fit(process, images[train], classes[train], epochs=epochs, validation=held_out, learning_rate=0.003, seed=seed)
    found, y = {}, classes[test].numpy()
    for kind, x in corruptions(images[test]).items():
        torch.manual_seed(seed)
        p = predict(density, x).probs.detach().double().numpy()
        right = float((p.argmax(1) == y).mean())
        found[kind] = right, float(class_log_score(p, y).mean()), expected_calibration_error(p, y).value
    return found


class Autoencoder(nn.Module):
    """q(z|x), then p(x|z), as one Pyro program."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.scale = nn.Sequential(encoder(), nn.Linear(WIDTH, LATENT)), nn.Linear(64, LATENT)
        self.decode = nn.Sequential(nn.Linear(LATENT, 128), nn.ReLU(), nn.Linear(128, 64), nn.Unflatten(-1, (8, 8)))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with pyro.plate("images", len(x)):
            scale = nn.functional.softplus(self.scale(x.flatten(1)) - 1)
            z = pyro.sample("z", dist.Normal(self.encode(x), scale).to_event(1))
            image: Tensor = pyro.sample("y", dist.Normal(self.decode(z), NOISE).to_event(2), obs=y)
            return image


def bounds(program: Callable[..., Tensor], x: Tensor) -> Tensor:
    """The evidence lower bound of each image, or pair of them, [B], in nats."""
    nodes = pyro.poutine.trace(program).get_trace(x, x).nodes
    prior = dist.Normal(torch.zeros(LATENT), 1.0).to_event(1)
    bound: Tensor = nodes["y"]["fn"].log_prob(nodes["y"]["value"]) - torch.distributions.kl_divergence(
        nodes["z"]["fn"], prior
    )
    return bound


def autoencoder(name: str, seed: int, steps: int = AUTOENCODER_STEPS) -> dict[str, float]:
    """The bound on test images, and how far images decoded from the midpoint of two latents are from the nearest real one."""
    images, classes = digits()
    train, _, test = dealt(seed)
    pyro.set_rng_seed(seed)
    model = Autoencoder()
    program: Callable[..., Tensor] = model
    if name != "plain":
        program = fuse(model, at="z", weight=dist.Beta(ALPHA, ALPHA))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -bounds(program, images[train[torch.randint(TRAIN, (BATCH,))]]).mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        bound = float(torch.stack([bounds(model, images[test]) for _ in range(20)]).mean())
        same = [images[test][classes[test] == k][:40] for k in range(10)]
        middles = torch.cat([model.decode((model.encode(x[::2]) + model.encode(x[1::2])) / 2) for x in same])
        distance = torch.cdist(middles.flatten(1), images[train].flatten(1)).min(1).values
    return {"bound": bound, "distance of midpoints": float(distance.mean())}


def train(seeds: int) -> None:
    """All numbers, into results/digits."""
    KEPT.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(_classified(seeds)).to_parquet(KEPT / "classes.parquet", index=False)
    rows = [{"method": m, "seed": s, **autoencoder(m, s)} for m in ("plain", "fused") for s in range(seeds)]
    pd.DataFrame(rows).to_parquet(KEPT / "autoencoder.parquet", index=False)


def _classified(seeds: int) -> Iterator[dict[str, object]]:
    for name in METHODS:
        for seed in range(seeds):
            for kind, scores in classifier(name, seed).items():
                yield {"method": name, "seed": seed, "images": kind, **dict(zip(METRICS, scores, strict=True))}


#: Metric -> whether more of it is better.
METRICS = {"accuracy": True, "NLL": False, "calibration error": False}


def table_of_classes(numbers: pd.DataFrame) -> str:
    """Each metric on each kind of images, mean over the seeds, with a mark where it is clearly not that of ERM."""
    kinds = list(numbers["images"].unique())
    blocks = []
    for metric, more in METRICS.items():
        wide = numbers.pivot_table(metric, ["images", "seed"], "method", sort=False)
        marks = _marks(wide * (1 if more else -1))
        lines = ["| method | " + " | ".join(kinds) + " |", "| --- " * (len(kinds) + 1) + "|"]
        for name in METHODS:
            cells = [f"{wide.loc[kind, name].mean():.3f} {marks.get((name, kind), '')}".rstrip() for kind in kinds]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        blocks.append(f"{metric[0].upper()}{metric[1:]}:\n\n" + "\n".join(lines))
    seeds = numbers["seed"].nunique()
    head = (
        f"Means over {seeds} seeds, each with its own images to train, validate and test; ● is better than ERM on the same "
        f"images, ○ worse, by a paired t-test with {seeds - 1} degrees of freedom, with a probability of {100 * LEVEL:.0f} % "
        f"at most of any wrong mark among the {len(kinds) * (len(METHODS) - 1)} comparisons of a table (Holm).\n\n"
    )
    return head + "\n\n".join(blocks) + _made_by(seeds)


def _marks(scores: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(method, kind of images) -> its mark, of scores [(kind, seed), method] of which more is better."""
    gains = scores.drop(columns="ERM").sub(scores["ERM"], axis=0).stack().groupby(level=[2, 0], sort=False)
    tested = {at: of_mean(own) for at, own in gains}
    clear = holm([p for *_, p in tested.values()])
    found = zip(tested, tested.values(), clear, strict=True)
    return {at: "●" if gain > 0 else "○" for at, (gain, *_), is_clear in found if is_clear}


def _made_by(seeds: int) -> str:
    return f"\n\n`python docs/digits.py train {seeds}` makes the numbers, in `results/digits`, and the table.\n"


def table_of_autoencoders(numbers: pd.DataFrame) -> str:
    """Both numbers, and the paired difference."""
    lines = ["| | plain | fused | fused minus plain | p |", "| --- | --- | --- | --- | --- |"]
    for metric, digits in (("bound", 2), ("distance of midpoints", 3)):
        wide = numbers.pivot_table(metric, "seed", "method")
        gap, error, p = of_mean(wide["fused"] - wide["plain"])
        plain, fused = (f"{wide[name].mean():.{digits}f}" for name in ("plain", "fused"))
        lines.append(f"| {metric} | {plain} | {fused} | {gap:+.{digits}f} ± {error:.{digits}f} | {p:.3f} |")
    seeds = numbers["seed"].nunique()
    return (
        f"Means over {seeds} seeds, the standard error of the difference, and p by a paired t-test with {seeds - 1} degrees of "
        "freedom:\n\n" + "\n".join(lines) + _made_by(seeds)
    )


def page(text: str, name: str) -> str:
    """A page's text with its table as the numbers are now."""
    begin = f"<!-- written by docs/digits.py: {name} -->\n"
    make = {"classes": table_of_classes, "autoencoder": table_of_autoencoders}[name]
    before, rest = text.split(begin)
    return before + begin + "\n" + make(pd.read_parquet(KEPT / f"{name}.parquet")) + "\n" + END + rest.split(END, 1)[1]


#: Page -> its table.
PAGES = {"images.md": "classes", "autoencoder.md": "autoencoder"}

if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["train"]:
        train(int(sys.argv[2]))
    for file, name in PAGES.items():
        path = TUTORIALS / file
        path.write_text(page(path.read_text("utf-8"), name), "utf-8")
