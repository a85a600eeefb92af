"""The setting nearest to the paper as a whole, from numbers whose effects are known."""

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.experiments.audit import whole as module
from pyro_probmix.experiments.audit.design import design, part_of
from pyro_probmix.experiments.audit.effects import LAST, Audited
from pyro_probmix.experiments.audit.whole import nearest, whole

TOY = {"targets": -0.3, "scale": 0.1, "alpha": 0.05, LAST: -0.1}
TABLE = {"targets": 0.1, "scale": 0.1, "batch": -0.2, LAST: -0.1}


def audited(name):
    part = part_of(name)
    points = [{**point, LAST: last} for point in design(part) for last in (False, True)]
    return Audited(name, part, tuple(points), (pd.DataFrame({"value": [1.0]}),) * len(points), 3, False, ("ERM",))


@pytest.fixture
def found(monkeypatch):
    """A toy and a table whose measures are sums of effects, with a little noise at each setting."""
    rng = np.random.default_rng(0)

    def measured(one):
        effects = TOY if one.name == "toy-regression" else TABLE
        value = pd.Series([0.6 + sum(effects[name] * point[name] for name in effects) for point in one.points])
        value += 0.01 * rng.normal(size=len(value))
        return (
            value.rename("claims").to_frame()
            if effects is TOY
            else pd.DataFrame({"cells": value, "rank correlation": 2 * value - 1})
        )

    monkeypatch.setattr(module, "_measured", measured)
    return [audited("toy-regression"), audited("yacht"), audited("lead")]


def test_the_nearest_setting_has_all_levels_that_help(found):
    table = nearest(found)
    assert len(table) == 2**10 and table.index.is_unique
    best = table.iloc[0]
    assert {name for name in [*TOY, *TABLE] if best[name]} == {"scale", "alpha"}
    # targets cost 0.3 on the one and gain 0.1 on the other, (-0.3 + 0.1) / 2 as a whole
    others = [name for name in TOY | TABLE if name != "targets"]
    same = (table[others] == best[others]).to_numpy(bool).all(axis=1)
    twin = table[same & table["targets"].to_numpy(bool)]
    assert twin["whole"].mean() - best["whole"] == pytest.approx(-0.1, abs=0.02)
    assert best["whole"] == pytest.approx((0.75 + 0.7) / 2, abs=0.02)
    # Noise of 0.01 at 32 settings, 10 and 9 numbers fitted: the variance of a point's fit is 0.01^2 * 10 / 32 and 9 / 32.
    assert table["error"].to_numpy() == pytest.approx(0.01 * np.sqrt(10 / 32 + 9 / 32) / 2, rel=0.5)


def test_the_table_has_ours_and_the_papers(found):
    text = whole(found)
    assert "Of 1024 settings, by what each choice adds on toy-regression, yacht:" in text
    first = text.splitlines()[4]
    assert (
        "scale exp(r / 2), no floor" in first
        and "alpha 1" in first
        and "| 1 | 75% |" in first
        and "targets" not in first
    )
    assert "| ours: all as ours |" in text
    assert "| --setting paper: targets in their units, scale exp(r / 2), no floor, start r |" in text
    assert whole(found[:1]) == ""  # the paper's tables have no toys, and nothing is near to them
