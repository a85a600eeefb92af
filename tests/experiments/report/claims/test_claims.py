"""Verdicts on the paper's claims, on results made so that the verdict is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from pyro_probmix.experiments.report.claims import CLAIMS, paper_verdicts, verdicts
from pyro_probmix.experiments.report.claims.evidence import Evidence
from pyro_probmix.experiments.report.claims.resampling import FEW, RESAMPLES, Centres
from pyro_probmix.experiments.report.claims.verdicts import LEVEL, Finding, decide
from pyro_probmix.experiments.report.numbers.paper import METHODS, paper_tables
from pyro_probmix.experiments.report.tables.again import flips, twice
from pyro_probmix.experiments.report.tables.records import _verdict
from tests.experiments.report import cases as cases

NINE = METHODS[:9]
BY_ID = {claim.id: claim for claim in CLAIMS}
UCI = tuple(paper_tables().query("table == 1")["dataset"].unique())


def outcome(claim, results, setting="fixed"):
    return verdict(claim, results, setting).outcome


def verdict(claim, results, setting="fixed"):
    """The verdict on one claim alone."""
    return decide([BY_ID[claim].check(Evidence(results, setting))])[0]


def outcomes(results, *claims):
    return {claim: outcome(claim, results) for claim in claims}


def toy(task, means, noise=0.01, runs=6, experiment=None, setting="fixed"):
    """Scores of a toy: metric -> method -> mean, with a little noise."""
    rng = np.random.default_rng(0)
    parts = []
    for method in NINE:
        values = {metric: own.get(method, own["else"]) + noise * rng.normal(size=runs) for metric, own in means.items()}
        key = (experiment or f"toy-{task}", f"toy-{task}", "mlp", method, setting)
        parts.append(cases.rows(key, values))
    return pd.concat(parts, ignore_index=True)


def grid(task, at_zero, at_more):
    """An ablation with the same means for every alpha: at beta = 0 and at beta = 0.01."""
    parts = [
        toy(task, means, noise=0.001, experiment=f"ablation-{task}", setting=f"alpha={alpha:g} beta={beta:g}")
        for beta, means in ((0, at_zero), (0.01, at_more))
        for alpha in (0.01, 0.05, 0.1, 0.5, 1.0)
    ]
    return pd.concat(parts, ignore_index=True)


def uci(nll, rmse):
    """UCI scores: (dataset, method) -> mean, for both metrics."""
    parts = [
        cases.rows(("uci", name, "mlp", m, "fixed"), {"nll": [nll(name, m)] * 20, "rmse": [rmse(name, m)] * 20})
        for name in UCI
        for m in METHODS
    ]
    return pd.concat(parts, ignore_index=True)


def test_every_claim_has_its_own_words():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) >= 40
    assert all(claim.text.endswith(".") and claim.where for claim in CLAIMS)
    assert {claim.where.split(",")[0] for claim in CLAIMS} >= {"6.1", "6.2", "6.3", "E.1.1", "E.1.2", "E.3"}


def test_the_verdicts_of_the_papers_tables():
    """The paper's tables support all claims that they decide but one: in Table 4 ERM or Mix lead only four rows of eight."""
    found = {claim.id: verdict.outcome for claim, verdict in zip(CLAIMS, paper_verdicts(), strict=True)}
    decided = {name: what for name, what in found.items() if what != "not measured"}
    assert set(decided) == {"U1", "U2", "U3", "U4", "U5", "U6", "U7", "S1", "S2", "S3", "S5", "S6", "S7"}
    assert [name for name, what in decided.items() if what != "supported"] == ["S7"]
    assert found["S7"] == "contradicted"


def test_without_results_nothing_is_measured():
    empty = cases.uci(("yacht",), ("ERM",)).iloc[:0]
    assert {verdict.outcome for verdict in verdicts(Evidence(empty, "fixed"))} == {"not measured"}


@pytest.mark.parametrize(
    ("claim", "supported", "contradicted"),
    [
        ("R1", {"rmse": {"Mix": 20, "else": 30}}, {"rmse": {"Mix": 40, "else": 30}}),
        ("R2", {"nll": {"Mix": 20, "else": 3}}, {"nll": {"Mix": 2, "else": 3}}),
        ("R7", {m: {"M-ProbMix": 1, "LocM-ProbMix": 2, "else": 3} for m in ("rmse", "nll")},
         {m: {"M-ProbMix": 1, "LocM-ProbMix": 4, "else": 3} for m in ("rmse", "nll")}),
        ("R8", {"nll": {"LocProbMix": 1, "else": 3}}, {"nll": {"LocProbMix": 2, "M-Mix": 1, "else": 3}}),
        ("R9", {"rmse": {"else": 30}}, {"rmse": {"else": 3}}),
        ("R10", {"sharpness": {"LocProbMix": 9, "LocM-ProbMix": 8, "else": 3}},
         {"sharpness": {"LocProbMix": 9, "LocM-ProbMix": 2, "else": 3}}),
        ("R11", {"sharpness": {"Mix": 1, "M-Mix": 2, "else": 3}}, {"sharpness": {"Mix": 1, "M-Mix": 4, "else": 3}}),
        ("R12", {"nll": {"ProbMix": 9, "else": 3}}, {"nll": {"ProbMix": 1, "else": 3}}),
        ("R13", {"nll": {"M-ProbMix": 1, "LocProbMix": 1.5, "LocM-ProbMix": 2, "else": 3}},
         {"nll": {"M-ProbMix": 1, "LocProbMix": 1.5, "ERM": 2, "else": 3}}),
    ],
)  # fmt: skip
def test_claims_on_the_toy_regression(claim, supported, contradicted):
    assert outcome(claim, toy("regression", supported)) == "supported"
    assert outcome(claim, toy("regression", contradicted)) == "contradicted"


def test_a_difference_within_its_error_decides_nothing():
    results = toy("regression", {"rmse": {"Mix": 29.9, "else": 30}}, noise=5.0)
    found = verdict("R1", results)
    assert found.outcome == "undecided" and "[" in found.numbers[0]
    one_run = toy("regression", {"rmse": {"Mix": 20, "else": 30}}, runs=1)
    assert outcome("R1", one_run) == "not measured"


def test_spread_and_likeness():
    wave = np.sin(2 * np.pi * np.arange(40) / 40)  # its mean is 0
    loud = ("M-Mix", "LocMix", "LocM-Mix")
    parts = []
    for method in NINE:
        square = 900 + (300 if method in loud else 10) * wave
        parts.append(cases.rows(("toy-regression", "t", "mlp", method, "fixed"), {"rmse": square**0.5, "nll": square}))
    results = pd.concat(parts, ignore_index=True)
    assert outcome("R4", results) == "supported" and outcome("R3", results) == "supported"
    assert outcome("R5", results) == "supported"
    results.loc[results["method"].eq("M-Mix"), "value"] *= 2
    assert outcome("R3", results) == "contradicted"


@pytest.mark.parametrize(
    ("claim", "supported", "contradicted"),
    [
        ("C1", {"accuracy": {"ERM": 0.9, "else": 0.88}}, {"accuracy": {"ERM": 0.9, "else": 0.8}}),
        ("C2", {"accuracy": {"ERM": 0.95, "LocM-ProbMix": 0.94, "else": 0.9}},
         {"accuracy": {"ERM": 0.95, "Mix": 0.94, "else": 0.9}}),
        ("C5", {"nll": {"M-Mix": 0.8, "else": 0.4}}, {"nll": {"M-Mix": 0.5, "else": 0.4}}),
        ("C9", {"accuracy": {"ProbMix": 0.95, "LocProbMix": 0.94, "else": 0.9}},
         {"accuracy": {"Mix": 0.95, "LocProbMix": 0.94, "else": 0.9}}),
        ("C10", {"accuracy": {"ProbMix": 0.91, "else": 0.9}}, {"accuracy": {"ProbMix": 0.99, "else": 0.9}}),
        ("C11", {"accuracy": {"Mix": 0.8, "M-Mix": 0.8, "else": 0.9}}, {"accuracy": {"Mix": 0.95, "else": 0.9}}),
        ("C12", {"accuracy": {"M-ProbMix": 0.8, "LocM-ProbMix": 0.8, "else": 0.9}},
         {"accuracy": {"M-ProbMix": 0.95, "else": 0.9}}),
    ],
)  # fmt: skip
def test_claims_on_the_toy_classification(claim, supported, contradicted):
    assert outcome(claim, toy("classification", supported, noise=0.001)) == "supported"
    assert outcome(claim, toy("classification", contradicted, noise=0.001)) == "contradicted"


def test_claims_on_the_grids():
    best = {m: {"M-ProbMix": 1, "else": 3} for m in ("rmse", "nll")}
    other = {m: {"ERM": 1, "else": 3} for m in ("rmse", "nll")}
    assert outcome("R14", grid("regression", best, best)) == "supported"
    assert outcome("R14", grid("regression", other, other)) == "contradicted"
    half = grid("regression", best, best)
    half = half[half["setting"].isin(["alpha=0.01 beta=0", "alpha=0.1 beta=0"])]
    assert outcome("R14", half) == "undecided"  # 4 panels of 20
    good = {"accuracy": {"ProbMix": 0.95, "LocProbMix": 0.95, "else": 0.9}}
    good["nll"] = {"ProbMix": 0.2, "LocProbMix": 0.2, "else": 0.4}
    assert outcomes(grid("classification", good, good), "C8", "C13") == {"C8": "supported", "C13": "supported"}
    low = {"accuracy": {"M-Mix": 0.5, "ProbMix": 0.5, "else": 0.9}}
    low["nll"] = {"ProbMix": 0.45, "LocProbMix": 0.45, "else": 0.4}
    found = outcomes(grid("classification", low, good), "C3", "C4", "C6", "C13")
    assert found == {"C3": "supported", "C4": "supported", "C6": "supported", "C13": "contradicted"}
    assert outcomes(grid("classification", good, low), "C7", "C8") == {"C7": "contradicted", "C8": "contradicted"}


def test_the_fixed_setting_falls_back_on_the_ablations_cell():
    results = grid("regression", {"rmse": {"Mix": 20, "else": 30}}, {"rmse": {"Mix": 90, "else": 30}})
    assert outcome("R1", results) == "supported"  # at beta = 0
    assert outcome("R1", results, "chosen") == "not measured"


def test_claims_on_the_uci_sets():
    naval = "naval-propulsion-plant"
    as_claimed = uci(
        lambda name, m: -9.0 if (name == naval and m == "Mix") else 1.0 - 0.1 * METHODS.index(m),
        lambda name, m: 2.0 if m == "M-ProbMix*" else 1.0 - 0.1 * METHODS.index(m),
    )
    names = [f"U{k}" for k in range(1, 8)]
    assert outcomes(as_claimed, *names) == dict.fromkeys(names, "supported")
    opposite = uci(
        lambda name, m: 9.0 if (name == naval and m in METHODS[:5]) else METHODS.index(m) * 1.0,
        lambda name, m: METHODS.index(m) if m != "M-ProbMix*" else 6.0,
    )
    assert outcomes(opposite, *names) == dict.fromkeys(names, "contradicted")


def test_rows_decide_as_soon_as_the_others_cannot_change_it():
    results = uci(lambda name, m: METHODS.index(m) * 1.0, lambda name, m: METHODS.index(m) * 1.0)  # ERM is best
    one = results[results["dataset"].eq("yacht")]
    assert outcome("U1", one) == "contradicted"  # all are needed
    assert outcome("U4", one) == "undecided"  # five of eight are
    assert verdict("U4", one).numbers[0] == "holds on 0 of 1 measured, of 8"
    assert outcome("U4", results[results["dataset"].isin(UCI[:4])]) == "contradicted"
    missing = one[one["method"].ne("LocMix")]  # the lowest of all is not known without one of them
    assert outcome("U1", missing) == "not measured"


def test_claims_on_the_stocks():
    results = cases.stocks(splits=12)
    assert outcome("S3", results) == "supported" and outcome("S7", results) != "not measured"
    assert outcome("S4", results) == "supported"  # the made-up test NLL lies three above the validation's
    alike = results.copy()
    test = alike["metric"].eq("nll (standardised)")
    noise = np.random.default_rng(0).normal(size=int(test.sum()))
    alike.loc[test, "value"] = alike.loc[alike["metric"].eq("validation nll"), "value"].to_numpy() + noise
    assert outcome("S4", alike) in ("undecided", "contradicted")


def coin(share, runs=100, shared=0.0):
    """A finding that holds on a share of the resamples."""
    yes = np.arange(RESAMPLES + 1) < share * (RESAMPLES + 1)
    return Finding(yes, ~yes, ("",), runs, shared)


def test_holm_stops_at_the_first_claim_that_is_open():
    sure, likely, unclear = coin(1.0), coin(0.985), coin(0.9)
    assert [one.outcome for one in decide([sure, None, likely])] == ["supported", "not measured", "supported"]  # 0.03
    assert [one.outcome for one in decide([likely, coin(0.985)])] == [
        "undecided",
        "undecided",
    ]  # 0.03 is above 0.05 / 2
    assert [one.outcome for one in decide([coin(0.0), unclear])] == ["contradicted", "undecided"]


def test_the_error_rate_over_all_claims():
    """Of claims none of which is true or false, since two methods are equally good, hardly any set has a verdict."""
    rng = np.random.default_rng(0)
    wrong = 0
    for trial in range(30):
        findings = []
        for claim in range(6):
            frame = pd.DataFrame(rng.standard_cauchy((FEW.stop, 2)), columns=["A", "B"])
            centres = Centres(frame, f"{trial} {claim}", "nll")
            yes = centres["A"] < centres["B"]
            findings.append(Finding(yes, ~yes, ("",), FEW.stop))
        wrong += any(one.outcome != "undecided" for one in decide(findings))
    assert wrong <= 30 * LEVEL + 3 * (30 * LEVEL * (1 - LEVEL)) ** 0.5  # three standard errors


@pytest.mark.parametrize("runs", [2, 3, 5, 10])
def test_few_runs_of_equal_methods_are_hardly_ever_decided(runs):
    """A wrong verdict at 5 % is no more frequent than that, within three standard errors, for tails as heavy as a toy's."""
    rng, wrong, trials = np.random.default_rng(0), 0, 100
    for _ in range(trials):
        frame = pd.DataFrame(np.exp(2 * rng.normal(size=(runs, 2))), columns=["A", "B"])
        centres = Centres(frame, "u", "nll")
        yes = centres["A"] < centres["B"]
        wrong += decide([Finding(yes, ~yes, ("",), runs)])[0].outcome != "undecided"
    assert wrong <= trials * LEVEL + 3 * (trials * LEVEL * (1 - LEVEL)) ** 0.5


def test_resamples_of_splits_that_share_rows_spread_as_their_mean_does():
    """Splits have a part in common, their test rows J * shared of the variance of a mean; a finite sample cannot show it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"A": rng.normal(size=20), "B": rng.normal(size=20)})
    gap = Centres(frame, "u", "nll", "mean", 1 / 9).gap("A", "B")
    each = (frame["A"] - frame["B"]).std(ddof=0)
    assert gap[0] == pytest.approx((frame["A"] - frame["B"]).mean())
    assert gap[1:].std() == pytest.approx(each * (1 / 20 + 1 / 9) ** 0.5, rel=0.02)
    assert np.isinf(Centres(frame.replace(frame["A"][3], np.inf), "u", "nll", "mean", 1 / 9)["A"][0])


def test_a_clear_claim_on_the_uci_sets_is_decided_by_twenty_splits_among_all_claims():
    rng = np.random.default_rng(0)
    results = uci(
        lambda name, m: (METHODS.index(m) if name.startswith("naval") else -METHODS.index(m)) * 1.0,
        lambda name, m: -METHODS.index(m) * 1.0,
    )
    results["value"] += 0.01 * rng.normal(size=len(results))
    found = {claim.id: one for claim, one in zip(CLAIMS, verdicts(Evidence(results, "fixed")), strict=True)}
    assert {found[name].outcome for name in ("U1", "U2", "U3", "U4", "U5", "U6")} == {"supported"}


def test_as_many_runs_as_are_needed_decide():
    """Four times the runs make twice the standard errors; a little more is asked of few runs, by Student's t."""
    wanted = student.isf(0.025, 99)
    assert coin(norm.cdf(2.0)).runs_needed(1) == pytest.approx(100 * (wanted / 2) ** 2, rel=0.03)
    assert coin(norm.cdf(1.0)).runs_needed(1) == pytest.approx(4 * coin(norm.cdf(2.0)).runs_needed(1), rel=0.06)
    assert coin(norm.cdf(2.0)).runs_needed(10) > 2 * coin(norm.cdf(2.0)).runs_needed(1)
    assert coin(0.5).runs_needed(1) == np.inf
    # Splits that share rows: more of them tell hardly more.
    assert coin(norm.cdf(1.5), 20, 1 / 9).runs_needed(1) == np.inf
    assert 20 < coin(norm.cdf(1.9), 20, 1 / 9).runs_needed(1) < coin(norm.cdf(1.8), 20, 1 / 9).runs_needed(1)
    # As many as are needed are enough, and one fewer are not.
    likely = coin(norm.cdf(2.5))
    needed = int(likely.runs_needed(4))
    for runs, enough in ((needed, True), (needed - 1, False)):
        z = likely.z_value * (runs / 100 * (runs - 1) / runs) ** 0.5
        assert bool(2 * student.sf(z, runs - 1) <= LEVEL / 4) is enough


def test_where_all_resamples_agree_the_number_of_runs_is_a_bound():
    found = decide([coin(1.0), coin(0.9)])
    assert [one.at_most for one in found] == [True, False]
    results = toy("regression", {"rmse": {"Mix": 20, "else": 30}}, runs=40)
    (line,) = (line for line in _verdict(verdict("R1", results)).lines if "runs" in line)
    assert line.startswith("40 runs; at most") and int(line.split()[4]) < 40
    few = _verdict(verdict("R1", toy("regression", {"rmse": {"Mix": 20, "else": 30}}, runs=6)))
    assert few.lines[-1] == "6 runs; 10 or more tell how many would decide it"


def test_a_run_that_diverged_is_the_worst():
    results = toy("regression", {"nll": {"Mix": 2, "else": 3}, "sharpness": {"else": 3}}, runs=20)
    assert outcome("R2", results) == "contradicted"
    results.loc[results["method"].eq("Mix") & results["split"].lt(15), "value"] = np.nan
    found = verdict("R2", results)
    assert found.outcome == "supported" and "Mix inf" in found.numbers[0] and found.runs == 20
    accuracy = toy("classification", {"accuracy": {"ERM": 0.9, "else": 0.9}}, noise=0.001, runs=20)
    accuracy.loc[accuracy["method"].eq("Mix"), "value"] = np.nan
    assert outcome("C1", accuracy) == "contradicted"


def test_a_run_that_is_not_there_is_not_one_that_diverged():
    """Methods with other seeds are compared on those that both have, and the verdict rests on as many."""
    results = toy("regression", {"nll": {"ERM": 50, "else": 10}}, noise=1.0, runs=60)
    part = results[results["method"].eq("ERM") | results["split"].lt(20)]
    found = verdict("R2", part)
    assert found.outcome == "contradicted" and found.runs == 20 and "inf" not in found.numbers[0]
    assert verdict("R2", results).runs == 60
    apart = results[results["method"].eq("ERM") == results["split"].lt(30)]
    assert outcome("R2", apart) == "not measured"
    grids = grid("classification", {"accuracy": {"else": 0.9}}, {"accuracy": {"else": 0.9}})
    gone = grids["method"].eq("ProbMix") & grids["split"].eq(0) & grids["setting"].str.startswith("alpha=0.1 ")
    whole, part = verdict("C3", grids), verdict("C3", grids[~gone])
    assert (whole.runs, part.runs) == (6, 5)


def test_the_verdicts_of_two_halves_of_the_seeds():
    results = toy("regression", {"rmse": {"Mix": 20, "else": 30}, "nll": {"else": 3}}, runs=60)
    pairs = {name: (one.outcome, two.outcome) for name, one, two in twice(results, "fixed")}
    assert pairs["R1"] == ("supported", "supported") and not flips(twice(results, "fixed"))
    turned = results.copy()
    late = turned["split"].ge(30) & turned["method"].eq("Mix") & turned["metric"].eq("rmse")
    turned.loc[late, "value"] += 20
    assert "R1" in flips(twice(turned, "fixed"))
    assert twice(results[results["split"] < 20], "fixed") == []


def test_settings_of_other_numbers_of_runs_are_apart():
    """The runs that one setting has beyond another's are not runs of that one that diverged."""
    means = {"rmse": {"Mix": 20, "else": 30}}
    many, few = toy("regression", means, runs=40), toy("regression", means, runs=12, setting="paper")
    found = verdict("R1", pd.concat([many, few]), "paper")
    assert found == verdict("R1", few, "paper") and found.runs == 12 and "inf" not in found.numbers[0]


def test_without_resamples_the_runs_are_judged_as_they_are():
    results = pd.concat([
        toy("regression", {"rmse": {"Mix": 29.9, "else": 30}, "nll": {"Mix": 40, "else": 30}}, noise=5.0, runs=15),
        grid("regression", {"rmse": {"M-ProbMix": 1, "else": 3}, "nll": {"M-ProbMix": 1, "else": 3}},
             {"rmse": {"else": 3}, "nll": {"else": 3}}),
        uci(lambda name, m: METHODS.index(m) * 1.0, lambda name, m: METHODS.index(m) * 1.0),
    ])  # fmt: skip
    whole, plain = (
        [claim.check(Evidence(results, "fixed", resampled=resampled)) for claim in CLAIMS]
        for resampled in (True, False)
    )
    measured = [(one, two) for one, two in zip(whole, plain, strict=True) if one is not None or two is not None]
    assert len(measured) > 15
    for one, two in measured:
        assert one is not None and two is not None and len(two.yes) == 1
        assert (bool(one.yes[0]), bool(one.no[0]), one.runs) == (bool(two.yes[0]), bool(two.no[0]), two.runs)
