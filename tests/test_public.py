"""What `import pyro_probmix` and its folders offer, now and to code that was written for version 0.1."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import pyro_probmix

ROOT = Path(__file__).parents[1]
#: What version 0.1 exported, by folder. A name that leaves this list needs a line in the changelog.
EXPORTED = {
    "pyro_probmix": (
        "ArrayStream BetaNLL BiasedBernoulliKernel BiasedCategoricalKernel Checkpoint CompleteGraph ConditionalDensity "
        "DiracKernel ExpectedLogLikelihood GaussianKernel LabelKernelGraph LogExpectedLikelihood METHODS Method "
        "NearestNeighborGraph ParquetStream PriorGuide ProbMix ProbMixClassifier ProbMixRegressor SameClassGraph "
        "WeightedGraph __version__ build_density check find_method fit fuse linear_pool load log_linear_pool predict "
        "register_family to_arviz to_predictions"
    ),
    "pyro_probmix.models": (
        "Attention BEYOND Bernoulli Categorical ConditionalDensity Gamma Gaussian GaussianEmbedding HomoscedasticGaussian "
        "LIKELIHOODS LSTM LSTMLayer Likelihood Linear METHODS MLP Method PeriodicFeatures PointEmbedding Poisson ProbMix "
        "Stacked StudentT Transformer build_density find_method initialise"
    ),
    "pyro_probmix.inference": (
        "ArrayStream BetaNLL Checkpoint Criterion ExpectedLogLikelihood Fit ForeignCheckpoint LogExpectedLikelihood "
        "ParquetStream PredictiveMixture RowStream fit negative_log_likelihood predict quantiles rescale to_predictions"
    ),
    "pyro_probmix.estimators": "ProbMixClassifier ProbMixRegressor",
    "pyro_probmix.calibration": (
        "CalibrationCurve CheckReport Density Estimate GaussianMixture IsotonicMap Predictions Reliability RemappedDensity "
        "RescaledDensity ScaleFactor ScipyMixture Temperature bayesian_p_values before_and_after bootstrap_error "
        "brier_score check check_density class_log_score coverage_curve crps_draws crps_gaussian crps_gaussian_mixture "
        "expected_calibration_error fit_isotonic fit_scale fit_temperature interval_score loo mean_over_rows pit_curve "
        "pit_of_draws randomised_pit regression_calibration_error reliability save_netcdf sharpness summarise to_arviz "
        "uniform_curve"
    ),
    "pyro_probmix.graphs": (
        "CompleteGraph EdgeDistribution Graph LabelKernelGraph NearestNeighborGraph SameClassGraph WeightedGraph"
    ),
    "pyro_probmix.pooling": "linear_pool log_linear_pool pool_rows",
    "pyro_probmix.experiments": "",
}
#: The modules of version 0.1, by folder.
MODULES = {
    "": (
        "batches cli edges expectation exposure families graphs guides handlers kernels linear members neighbors "
        "numerical perturbation pooling quadrature random_state rolls rows simplex spread supports weighted_graph "
        "weights"
    ),
    "calibration": (
        "arrays arviz_data arviz_figures band checking classes densities estimate isotonic mixtures pit "
        "predictions scaling scores summary"
    ),
    "estimators": ("base classifier held_out network parameters regressor rows saving state support training"),
    "experiments": (
        "checks command config data engines figures grid jobs measures problem record results runner stocks sweep "
        "table toy uci"
    ),
    "experiments.report": (
        "beside boxplots calibration checks claims classification_claims comparison coverage curves evidence "
        "numbers page paired panels paper reading records regression_claims rendering scores sections style "
        "table_claims writing"
    ),
    "inference": (
        "adam arguments beta_nll captured checkpoint checks compiled criteria distributed draws handover held_out "
        "memory_map methods minibatches mixture objective pages parquet precision prediction programs quantile "
        "recorders replicas resume shuffle source_files steps streaming training units validation"
    ),
    "models": (
        "beyond density embeddings likelihoods methods networks orders periodic process recurrent stacked transformer"
    ),
    "tabular": ("checking columns files model parts sections spelling targets verdict"),
}


@pytest.mark.parametrize("folder", EXPORTED)
def test_all_that_version_0_1_exported_is_there(folder):
    module = importlib.import_module(folder)
    names = EXPORTED[folder].split()
    assert [name for name in names if not hasattr(module, name)] == []
    assert set(names) <= set(getattr(module, "__all__", ()))


def test_the_changelog_names_what_is_there():
    rows = re.findall(
        r"^\| `([\w.]+)` \| (`[\w.]+`(?:, `[\w.]+`)*) \|$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 50
    for _, now in rows:
        for name in re.findall(r"[\w.]+", now):
            assert pkgutil.resolve_name(f"pyro_probmix.{name}"), name
    told = {before for before, _ in rows}
    was = {f"{folder}.{name}".removeprefix(".") for folder, names in MODULES.items() for name in names.split()}
    assert {name for name in was - told if find_spec(f"pyro_probmix.{name}") is None} == set()


def test_python_m_runs_the_command():
    done = subprocess.run([sys.executable, "-m", "pyro_probmix", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: probmix ")


def test_every_public_name_is_there_and_known_to_type_checkers():
    assert pyro_probmix.__file__ is not None
    tree = ast.parse(Path(pyro_probmix.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module for alias in node.names
        if node.module.startswith("pyro_probmix.")
    }  # fmt: skip
    names = set(pyro_probmix.__all__) - {"__version__"}
    assert names == imported
    assert names <= set(dir(pyro_probmix))
    for name in names:
        assert getattr(pyro_probmix, name) is not None


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="nothing"):
        getattr(pyro_probmix, "nothing")  # noqa: B009 (the attribute is not there, as a type checker would say too)


def test_import_is_cheap():
    code = "import sys, pyro_probmix; assert not {'torch', 'pyro', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
