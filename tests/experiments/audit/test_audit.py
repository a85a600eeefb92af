"""The audit: its design, its runs, and effects that are known because the numbers were made so."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from pyro_probmix.experiments.audit import design as designs
from pyro_probmix.experiments.audit import pictures
from pyro_probmix.experiments.audit.design import PARTS, canonical, design, factors_of, part_of
from pyro_probmix.experiments.audit.effects import LAST, audited, audits, holding, medians, moved, nearness
from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.running import plan
from pyro_probmix.experiments.audit.summary import kinds_of, summary
from pyro_probmix.experiments.audit.tables import tables
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.report.numbers.paper import METHODS, paper_tables
from tests.experiments.audit.made import made


def signs(points):
    return {name: np.array([1 if point[name] else -1 for point in points]) for name in points[0]}


@pytest.mark.parametrize("name", PARTS)
def test_a_fraction_that_tells_main_effects_apart(name):
    """No choice is confounded with another, nor, at resolution IV, with a pair of others."""
    part = part_of(name)
    columns = signs(design(part))
    assert not any(design(part)[0].values())  # ours is among the settings
    for one, two in combinations(columns, 2):
        assert columns[one] @ columns[two] == 0
    for one in columns:
        for two, three in combinations([other for other in columns if other != one], 2):
            assert columns[one] @ (columns[two] * columns[three]) == 0
    for generated, word in part.generators.items():
        assert np.array_equal(columns[generated], np.prod([columns[other] for other in word], axis=0))


def test_the_full_design_has_every_combination():
    part = part_of("toy-regression")
    points = design(part, full=True)
    assert len({tuple(point.values()) for point in points}) == len(points) == 2 ** len(part.factors)


def test_a_method_is_run_once_for_choices_that_it_does_not_depend_on():
    part = part_of("toy-regression")
    assert [factor.name for factor in factors_of(part, "ERM")] == ["targets", "scale"]
    runs = plan("toy-regression", part, (), (0, 1))
    erm = [one for one in runs if "ERM" in one.config.methods]
    assert len(erm) == 4 and {one.config.targets for one in erm} == {"raw", "standardised"}
    drawn = [one for one in runs if "M-ProbMix" in one.config.methods]
    assert len(drawn) == 16 and len({str(replace(one.config, methods=())) for one in drawn}) == 16
    for one in runs:
        check_config(one.config)
    point = dict.fromkeys(("alpha", "start"), True) | dict.fromkeys(
        ("targets", "scale", "embedding", "weight", "variance network", "beta"), False
    )
    assert canonical(part, point, "Mix") == ("alpha", {"alpha": 1.0})


def test_a_claim_that_hangs_on_one_choice():
    """Mix has the lower MSE exactly where targets are in their units; in NLL ERM is ahead of it everywhere."""

    def value(point, epoch, method, metric):
        if metric == "nll":
            return 9.0 if method == "Mix" else 3.0
        return (20.0 if point["targets"] else 40.0) if method == "Mix" else 30.0

    one = audited(made(value), "toy-regression")
    assert one is not None
    held = holding(one)
    means = moved(one, held)
    targets = next((ours, other) for name, ours, other in one.choices if name == "targets")
    assert means.loc["R1", ("targets", targets[0])] == 0 and means.loc["R1", ("targets", targets[1])] == 1
    for name, ours, other in one.choices:
        if name != "targets":
            assert [means[name, level]["R1"] for level in (ours, other)] == [0.5, 0.5]
    kinds = kinds_of(held)
    assert "R1" in kinds["hangs on a choice"] and "R2" in kinds["holds whatever one chooses"]
    assert "R1: Mix has a lower MSE than ERM | 16 of 32 | **0% → 100%**" in tables(audits(made(value)))


def test_a_claim_that_hangs_on_two_choices_together(monkeypatch):
    """Of all combinations the page names the pair; a fraction, in which pairs are confounded, does not."""
    factors = [
        factor for factor in part_of("toy-regression").factors if factor.name in ("targets", "scale", "alpha", "beta")
    ]
    few = replace(part_of("toy-regression"), factors=tuple(factors), generators={"beta": ("targets", "scale", "alpha")})
    monkeypatch.setitem(designs.PARTS, "toy-regression", few)

    def value(point, epoch, method, metric):
        return (20.0 if point["scale"] and point["beta"] else 40.0) if method == "Mix" and metric == "rmse" else 30.0

    one = audited(made(value, full=True), "toy-regression")
    assert one is not None and one.full and len(one.points) == 32
    scale = "scale: exp(r / 2), no floor"
    assert f"R1, 8 of 32, more often with {scale}, 8 of the 8 with {scale} and beta: 0.01: Mix" in summary([one])
    assert "All combinations have run." in tables([one])
    half = audited(made(value), "toy-regression")
    assert half is not None and not half.full and len(half.points) == 16
    assert "R1, 4 of 16, more often with scale: exp(r / 2), no floor: Mix" in summary([half])
    assert set(draw([one])) == {"claims-toy-regression"}


def test_a_figure_of_many_settings_shows_what_each_choice_adds(tmp_path, monkeypatch):
    def value(point, epoch, method, metric):
        return (20.0 if point["targets"] or point["scale"] else 40.0) if method == "Mix" else 30.0

    few = replace(part_of("toy-regression"), factors=part_of("toy-regression").factors[:2], generators={})
    monkeypatch.setitem(designs.PARTS, "toy-regression", few)
    monkeypatch.setattr(pictures, "_COLUMNS", 4)
    drawn = []

    def kept(figure, **_):
        drawn.append(figure)
        return b"a figure"

    monkeypatch.setattr(pictures, "png", kept)
    draw(audits(made(value)))["claims-toy-regression"](tmp_path / "figure.png")
    left, right = drawn[0].axes
    claims = [label.get_text() for label in left.get_yticklabels()]
    numbers = {ax: [text.get_text() for text in ax.texts] for ax in (left, right)}
    place = claims.index("R1")
    assert numbers[left][place] == "75%" and numbers[right][3 * place : 3 * place + 3] == ["+50%", "+50%", "+0%"]
    assert (tmp_path / "figure.png").read_bytes() == b"a figure"


def test_where_the_embeddings_methods_lead():
    def value(point, epoch, method, metric):
        return 1.0 if point["targets"] and metric == "nll" and method in ("M-ProbMix", "LocM-ProbMix") else 3.0

    whole = made(value, runs=3)
    told = "in NLL in 16 of 32 (targets: 0 of 16 with standardised, 16 of 16 with in their units); in MSE in "
    assert f"M-ProbMix and LocM-ProbMix have the two lowest medians of 9 methods {told}" in summary(audits(whole))
    assert "two lowest medians" not in summary(audits(whole[whole["method"] != "LocM-ProbMix"]))


def test_the_last_epoch_is_a_choice_too():
    one = audited(made(lambda point, epoch, method, metric: 5.0 if epoch == "last" else 3.0), "toy-regression")
    assert one is not None
    means = moved(one, medians(one, "nll"))
    assert means[LAST, "by validation"]["ERM"] == pytest.approx(3.0, abs=0.01)
    assert means[LAST, "the last"]["ERM"] == pytest.approx(5.0, abs=0.01)


def test_nearness_to_the_papers_tables():
    """The paper's own means, at the settings with all rows to a batch, are all within its spread and in its order."""
    paper = paper_tables().query("dataset == 'yacht' and network == 'mlp'").set_index(["metric", "method"])

    def value(point, epoch, method, metric):
        if metric == "sharpness":
            return 1.0
        mean = float(paper["mean"][metric, method])
        return mean if point["batch"] else 100.0 - mean

    one = audited(made(value, "yacht", runs=3, methods=METHODS), "yacht")
    assert one is not None
    near = nearness(one)
    for k, row in near.iterrows():
        at = one.points[int(str(k))]["batch"]
        assert row["of"] == 22 and row["cells"] == (22 if at else 0)
        assert row["rank correlation"] == pytest.approx(1.0 if at else -1.0, abs=0.1)  # but for the paper's ties
    text = tables(audits(made(value, "yacht", runs=3, methods=METHODS)))
    assert "Nearest: batch all rows" in text
    assert (
        "Of 32 settings a lower median NLL than ERM has" in text and " M-ProbMix in 16," in text
    )  # in the paper's order


def test_what_is_still_missing_is_left_out():
    whole = made(lambda point, epoch, method, metric: 3.0)
    part = whole[~((whole["folder"] == "targets") & (whole["method"] == "ERM"))]
    one = audited(part, "toy-regression")
    assert one is not None and not one.complete and 0 < sum(len(scores) > 0 for scores in one.scores) < len(one.scores)
    assert "toy-regression: left out, " in tables(audits(part)) and "R1" not in summary(audits(part))
    assert "R1" in summary(audits(whole))
    assert audited(whole, "yacht") is None


def test_rmse_is_compared_in_the_papers_units():
    """Table 3 shows 100 times the RMSE of kin8nm and naval."""
    paper = paper_tables().query("dataset == 'kin8nm' and network == 'mlp'").set_index(["metric", "method"])["mean"]

    def value(point, epoch, method, metric):
        return 1.0 if metric == "sharpness" else float(paper[metric, method]) / (100 if metric == "rmse" else 1)

    one = audited(made(value, "kin8nm", runs=2, methods=METHODS), "kin8nm")
    assert one is not None
    near = nearness(one)
    # The noise of the made numbers is a hundredth of the RMSE's mean there.
    assert near["of"].eq(22).all() and near["cells"].ge(20).all() and near["rank correlation"].gt(0.8).all()


def test_methods_beyond_the_papers_stand_below_them():
    """The methods are those of the numbers; one that fixes alpha does not depend on it."""
    methods = ("SK-ProbMix", "M-ProbMix*", "5xERM", "ERM")
    one = audited(made(lambda *_: 3.0, "toy-classification", runs=2, methods=methods), "toy-classification")
    assert one is not None and one.complete and one.methods == ("ERM", "M-ProbMix*", "5xERM", "SK-ProbMix")
    assert one.depends("M-ProbMix*", "alpha") and not one.depends("SK-ProbMix", "alpha")
    lines = [line.split(" | ") for line in tables([one]).splitlines() if line.startswith("| ")]
    row = {line[0].removeprefix("| "): line[1:] for line in lines}
    shown = dict(zip(row["median NLL"], row["SK-ProbMix"], strict=True))
    assert shown == {name: "–" if name in ("scale", "embedding", "start", "variance network", "alpha") else "3 → 3" for name in
                     row["median NLL"][:-1]} | {"best epoch |": "3 → 3 |"}  # fmt: skip
    assert row["ERM"][:-1] == ["–"] * 7 and "–" not in row["M-ProbMix\\*"]


@pytest.mark.parametrize(("methods", "full"), [(("ERM",), False), (("ERM", "Mix"), False), (("M-ProbMix",), True)])
def test_settings_are_all_combinations_only_of_choices_that_matter(monkeypatch, methods, full):
    """ERM has run at all combinations as soon as it has run at two settings."""
    names = ("scale", "weight", "embedding", "start")
    factors = tuple(factor for factor in part_of("yacht").factors if factor.name in names)
    few = replace(part_of("yacht"), factors=factors, generators={names[-1]: names[:-1]})
    monkeypatch.setitem(designs.PARTS, "yacht", few)
    one = audited(made(lambda *_: 3.0, "yacht", runs=2, methods=methods, full=True), "yacht")
    assert one is not None and one.complete and one.full is full and len(one.points) == (32 if full else 16)
    assert ("All combinations have run." in tables([one])) is full


@pytest.mark.parametrize("methods", [("ERM",), ("M-ProbMix", "ERM"), ("SK-ProbMix",), METHODS[3:9]])
@pytest.mark.parametrize("name", ["lead", "toy-classification", "yacht"])
def test_any_methods_have_a_page(name, methods):
    found = audits(made(lambda *_: 3.0, name, runs=2, methods=methods))
    assert len(found) == 1 and found[0].complete
    assert "| median NLL |" in tables(found) and "has ." not in tables(found)
    assert ("two lowest medians" in summary(found)) is (name == "lead" and len(methods) == 6)
    draw(found)


def test_only_runs_that_all_methods_have_are_compared():
    """A split that a method lacks is no split on which it diverged."""
    whole = made(lambda point, epoch, method, metric: 3.0 if method == "ERM" else 2.0, "yacht", methods=("ERM", "Mix"))
    one = audited(whole[(whole["method"] == "ERM") | (whole["split"] < 4)], "yacht")
    assert one is not None and one.runs == 4
    assert np.isfinite(medians(one, "nll").to_numpy()).all() and "Mix in 32." in tables([one])
    apart = audited(whole[(whole["method"] == "ERM") == (whole["split"] < 4)], "yacht")
    assert apart is not None and not apart.complete
    assert "0 of its 32 settings have run with the same seeds or splits of ERM, Mix." in tables([apart])
