"""Trainings that diverged count as the worst in all that the audit tells, and are told."""

import numpy as np
import pytest

from pyro_probmix.experiments.audit import pictures
from pyro_probmix.experiments.audit.diverged import diverged
from pyro_probmix.experiments.audit.effects import audited, audits, medians, nearness
from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.summary import summary
from pyro_probmix.experiments.audit.tables import tables
from pyro_probmix.experiments.report.numbers.paper import METHODS, paper_tables
from tests.experiments.audit.made import made

PAPER = paper_tables().query("dataset == 'yacht' and network == 'mlp'").set_index(["metric", "method"])["mean"]


def as_in_the_paper(point, epoch, method, metric):
    return 1.0 if metric == "sharpness" else float(PAPER[metric, method])


def with_losses(numbers, lost):
    """The numbers without those of the trainings that are lost."""
    return numbers.assign(value=numbers["value"].where(~lost, np.nan))


@pytest.fixture
def yacht():
    """Of the last epoch with the other scale, M-ProbMix has lost 2 runs of 4, and Mix 1."""
    numbers = made(as_in_the_paper, "yacht", runs=4, methods=METHODS)
    at = numbers["folder"].str.contains("scale") & numbers["epoch"].eq("last")
    few = (numbers["method"].eq("M-ProbMix") & numbers["split"].lt(2)) | (
        numbers["method"].eq("Mix") & numbers["split"].eq(0)
    )
    one = audited(with_losses(numbers, at & few), "yacht")
    assert one is not None
    return one


def test_a_method_of_which_half_of_the_runs_diverged_has_no_median(yacht):
    found = medians(yacht, "nll")
    lost = {k: point["scale"] and point["best epoch"] for k, point in enumerate(yacht.points)}
    assert [bool(np.isinf(found[k]["M-ProbMix"])) for k in lost] == list(lost.values())
    assert np.isfinite(found.drop("M-ProbMix").to_numpy()).all()
    # M-ProbMix is ahead of ERM in the paper, so that it is wherever it has a median.
    assert " M-ProbMix in 24," in tables([yacht])


def test_settings_without_a_median_do_not_vanish(yacht):
    text = tables([yacht])
    row = next(line for line in text.splitlines() if line.startswith("| M-ProbMix | 0.2"))
    assert "| 0.27 → 0.27 (8 none) |" in row and "| 0.27 (4 none) → 0.27 (4 none) |" in row
    assert "in brackets how many settings are left out of the mean" in text
    assert "left out of the mean" not in tables(audits(made(as_in_the_paper, "yacht", 2, METHODS)))


def test_a_method_with_a_run_that_diverged_is_last_and_not_within_the_papers_spread(yacht):
    near = nearness(yacht)
    for k, point in enumerate(yacht.points):
        lost = point["scale"] and point["best epoch"]
        assert near["cells"][k] == (22 - 2 * 2 if lost else 22)
        assert (near["rank correlation"][k] < 0.8) == lost


def test_methods_that_all_diverged_have_no_order():
    numbers = made(as_in_the_paper, "yacht", runs=2, methods=METHODS)
    one = audited(with_losses(numbers, numbers["epoch"].eq("last")), "yacht")
    assert one is not None
    near = nearness(one)
    assert [tuple(near.loc[k, ["cells", "rank correlation"]]) == (0, 0) for k in near.index] == [False, True] * 16
    assert " → none |" in tables([one]) and "Mix in 0," in tables([one])


def test_trainings_are_counted_once_by_scale_and_epoch(yacht):
    """A training stands for all settings that differ in choices which its method does not depend on."""
    found = diverged(yacht).set_index("method")
    assert len(found.loc["ERM"]) == 2 * 8 * 4 and len(found.loc["M-ProbMix"]) == 2 * 16 * 4
    text = tables([yacht])
    softplus, exp = "softplus, floor 0.001", "exp(r / 2), no floor"
    head = f"| diverged | {softplus}; by validation | {softplus}; the last | {exp}; by validation | {exp}; the last |"
    lines = text[text.index(head) :].splitlines()[2:]
    assert lines == [
        "| Mix | 0 of 32 | 0 of 32 | 0 of 32 | 8 of 32 |",
        "| M-ProbMix | 0 of 32 | 0 of 32 | 0 of 32 | 16 of 32 |",
    ]
    trainings = len(found.reset_index()[["method", "folder", "split"]].drop_duplicates())
    told = f"* yacht: 24 of {trainings} trainings, always with scale: {exp} and best epoch: the last (Mix 8, M-ProbMix 16)."
    assert told in summary([yacht])


def test_without_any_the_page_says_so():
    one = audited(made(lambda *_: 3.0, runs=2), "toy-regression")
    assert one is not None
    assert "No training diverged." in tables([one]) and "diverged" not in summary([one])


def test_a_claim_and_the_leaders_take_a_run_that_diverged_for_the_worst():
    """The two that are best by far lead nowhere if half of their runs have no number."""

    def value(point, epoch, method, metric):
        return 1.0 if method in ("M-ProbMix", "LocM-ProbMix") else 3.0 + METHODS.index(method)

    numbers = made(value, "lead", runs=4)
    told = []
    for lost in (numbers["split"] < 0, numbers["method"].isin(["M-ProbMix", "LocM-ProbMix"]) & numbers["split"].lt(2)):
        one = audited(with_losses(numbers, lost), "lead")
        assert one is not None
        told.append(summary([one]))
    assert "methods in NLL in 8 of 8; in MSE in 8 of 8." in told[0]
    assert "methods in NLL in 0 of 8; in MSE in 0 of 8." in told[1]


def test_the_figure_has_an_arrow_where_runs_diverged(tmp_path, monkeypatch):
    numbers = made(lambda *_: 3.0, "lead", runs=8)
    lost = (numbers["method"].eq("ProbMix") & numbers["folder"].eq("scale")) | (
        numbers["method"].eq("Mix") & numbers["folder"].eq("targets") & numbers["split"].lt(3)
    )
    one = audited(with_losses(numbers, lost), "lead")
    assert one is not None
    drawn = []

    def kept(figure, **_):
        drawn.append(figure)
        return b""

    monkeypatch.setattr(pictures, "png", kept)
    draw([one])
    dots = [
        [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o" and len(line.get_ydata())]
        for ax in drawn[-1].axes
    ]
    assert [len(ys) for ys in dots] == [9, 8, 9, 9]
    arrows = [[line.get_ydata()[0] for line in ax.lines if line.get_marker() == ">"] for ax in drawn[-1].axes]
    assert arrows == [[], [METHODS.index("ProbMix")], [METHODS.index("Mix")], []]
