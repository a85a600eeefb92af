"""One fit by two processes: the weights of one process with the joint batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from tests.inference.step import two_ranks

pytestmark = [
    pytest.mark.skipif(not distributed.is_gloo_available(), reason="PyTorch has no gloo here"),
    pytest.mark.timeout(300),  # three processes that import PyTorch, on a machine that may be busy
]


@pytest.fixture(autouse=True, scope="module")
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What both ranks leave, and one process by itself."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.inference.step.two_ranks"]
    root = Path(__file__).parents[3]
    ranks = [
        subprocess.Popen([*command, str(k), str(folder)], cwd=root, stderr=subprocess.PIPE, text=True) for k in (0, 1)
    ]
    alone = two_ranks.everything(False)
    try:
        errors = [rank.communicate(timeout=250)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    return folder, [torch.load(folder / f"{k}.pt", weights_only=True) for k in (0, 1)], alone


@pytest.mark.parametrize(
    "case",
    [
        "loop ERM",
        "loop ProbMix",
        "loop M-ProbMix",
        "fit ERM",
        "fit ERM, all rows",
        "fit ERM, stream",
        "fit ERM, a last batch of half the size",
    ],
)
def test_two_ranks_leave_the_weights_of_one_process_with_the_joint_batch(left, case):
    """Given the same pairs and noise; ERM has none besides the order of the rows."""
    _, ranks, alone = left
    for name, expected in alone[case].items():
        for rank in ranks:
            torch.testing.assert_close(rank[case][name], expected, rtol=0, atol=1e-10, check_dtype=False)


def test_ranks_agree_though_each_draws_its_own_noise(left):
    _, (first, second), alone = left
    for name, expected in first["fit M-ProbMix"].items():
        assert torch.equal(second["fit M-ProbMix"][name], expected), name
    assert not torch.equal(first["fit M-ProbMix"]["nll"], alone["fit M-ProbMix"]["nll"])


def test_a_batch_that_cannot_be_dealt_is_refused(left):
    folder, _, _ = left
    for rank in (0, 1):
        message = (folder / f"{rank}.txt").read_text()
        assert "batch_size=10 for 2 processes, expected a multiple of 4" in message and "Try batch_size=8" in message


def test_fit_outside_of_a_group_is_refused():
    with pytest.raises(ValueError, match=r"outside of a process group.*Try torchrun"):
        two_ranks.by_fit("ERM", True)


@pytest.mark.slow
def test_the_example_of_the_docs_runs_under_torchrun(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    script = page.split("```python\n# train.py\n")[1].split("```")[0]
    (tmp_path / "train.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", "29631", "train.py"]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[3]}{os.pathsep}{paths}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("validation NLL ") and (tmp_path / "density.pt").exists()
