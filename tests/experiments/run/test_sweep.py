"""Sweeps: the same numbers wherever their jobs run, resumed from what is finished, and not lost with a worker."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pyro_probmix.cli import main
from pyro_probmix.experiments.config import EXPERIMENTS, Config
from pyro_probmix.experiments.config.grid import candidates
from pyro_probmix.experiments.data.problem import Problem
from pyro_probmix.experiments.run.engines import Engine, connect, worker_device
from pyro_probmix.experiments.run.jobs import Job, list_jobs, run_job
from pyro_probmix.experiments.run.results import RunFolder
from pyro_probmix.experiments.run.runner import fit_method
from pyro_probmix.experiments.run.sweep import WorkersLost, chunk_size, run
from pyro_probmix.inference import Checkpoint
from pyro_probmix.models import find_method

SMALL = replace(EXPERIMENTS["toy-regression"], methods=("ERM", "ProbMix"), splits=(0, 1), epochs=2, num_samples=4)


def finish(folder: Path, config: Config, jobs: list[Job], engine: Engine | None = None) -> list[str]:
    """Runs what the folder does not hold, and returns the names of the jobs that were run."""
    opened = RunFolder(folder, config, "cpu")
    ran: list[str] = []
    run(opened.unfinished(jobs), opened, engine, on_job=lambda job: ran.append(job.name))
    return ran


def numbers(folder: Path) -> pd.DataFrame:
    frame = pd.read_parquet(folder / "results.parquet")
    return frame[frame["metric"] != "seconds"].reset_index(drop=True)


def deadly(job: Job, marker: Path, times: int) -> Job:
    """The job, which kills the process that runs it, as often as given."""

    class Deadly(Problem):
        # Workers need not be able to import this file: a class of a function's is sent along whole.
        def to(self, device: Any) -> Any:
            losses = marker.read_text() if marker.exists() else ""
            if len(losses) < times:
                marker.write_text(losses + "x")
                os.kill(os.getpid(), signal.SIGKILL)
            return Problem(**vars(self)).to(device)

    return replace(job, problem=Deadly(**vars(job.problem)))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A small run in this process."""
    folder = tmp_path_factory.mktemp("alone")
    finish(folder, SMALL, list_jobs(SMALL))
    return folder


def test_two_processes_and_a_killed_worker_change_no_number(alone, tmp_path):
    jobs = list_jobs(SMALL)
    jobs[1] = deadly(jobs[1], tmp_path / "marker", times=1)
    with connect("local", 2) as engine:
        assert engine.workers == 2 and not engine.in_process
        ran = finish(tmp_path / "run", SMALL, jobs, engine)
    assert sorted(ran) == sorted(job.name for job in jobs)
    assert (tmp_path / "marker").read_text() == "x"
    pd.testing.assert_frame_equal(numbers(tmp_path / "run"), numbers(alone))


def cluster(backend):
    """Skips where the backend is not installed."""
    pytest.importorskip({"ray": "ray", "dask": "distributed"}[backend], reason=f"needs the extra {backend}")
    if backend == "ray":
        # Ray's processes find no other way to the package that is tested, if it is not installed.
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the engines' own: sockets and event loops of processes that were killed
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_a_cluster_and_a_killed_worker_change_no_number(alone, tmp_path, backend):
    cluster(backend)
    jobs = list_jobs(SMALL)
    jobs[1] = deadly(jobs[1], tmp_path / "marker", times=1)
    with connect(backend, 2) as engine:
        ran = finish(tmp_path / "run", SMALL, jobs, engine)
    assert sorted(ran) == sorted(job.name for job in jobs)
    assert (tmp_path / "marker").read_text() == "x"
    pd.testing.assert_frame_equal(numbers(tmp_path / "run"), numbers(alone))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["local", "ray", "dask"])
def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_kept(tmp_path, backend):
    if backend != "local":
        cluster(backend)
    jobs = list_jobs(SMALL)
    jobs[1] = deadly(jobs[1], tmp_path / "marker", times=1000)
    with connect(backend, 2) as engine, pytest.raises(WorkersLost, match="Try fewer --jobs"):
        finish(tmp_path / "run", SMALL, jobs, engine)
    assert set(numbers(tmp_path / "run")["method"]) == {"ERM"}


def test_a_run_goes_on_from_what_is_finished(alone, tmp_path):
    """A truncated file and one of another run are named and not read; what is computed again has the same numbers."""
    jobs = list_jobs(SMALL)
    finish(tmp_path, SMALL, jobs)
    kept, damaged = (tmp_path / "cells" / f"{job.name}.json" for job in jobs)
    before = kept.read_bytes()
    damaged.write_text(damaged.read_text()[:-40])
    (tmp_path / "cells" / "notes.json").write_text("{}")
    (tmp_path / "cells" / ".partial-1-x.json").write_text("a killed run's")
    with pytest.warns(UserWarning, match="is not a finished job of this run and was skipped") as caught:
        ran = finish(tmp_path, SMALL, jobs)
    assert sorted(Path(str(w.message).split("'")[1]).name for w in caught) == sorted([damaged.name, "notes.json"])
    assert ran == [jobs[1].name] and kept.read_bytes() == before
    pd.testing.assert_frame_equal(numbers(tmp_path), numbers(alone))


def test_a_finished_job_of_another_run_is_not_read(alone, tmp_path):
    longer = replace(SMALL, epochs=3)
    opened = RunFolder(tmp_path, longer, "cpu")
    name = list_jobs(SMALL)[0].name
    (tmp_path / "cells" / f"{name}.json").write_bytes((alone / "cells" / f"{name}.json").read_bytes())
    with pytest.warns(UserWarning, match="not a finished job of this run"):
        assert len(opened.unfinished(list_jobs(longer))) == 2


def test_a_folder_with_another_configuration_is_refused(alone):
    with pytest.raises(ValueError, match="holds another run, with epochs 2, not 9"):
        RunFolder(alone, replace(SMALL, epochs=9), "cpu")
    RunFolder(alone, replace(SMALL, device="cpu", data_dir="elsewhere"), "cpu")


def test_a_folder_with_a_foreign_configuration_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a run's configuration"):
        RunFolder(tmp_path, SMALL, "cpu")


def test_a_job_uses_one_thread_so_that_its_numbers_do_not_depend_on_the_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen: list[int] = []
    try:
        (job, *_) = list_jobs(SMALL)
        run_job(job, torch.device("cpu"), lambda epoch, best: seen.append(torch.get_num_threads()))
        assert set(seen) == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_chunks_are_jobs_with_different_seeds(tmp_path):
    config = replace(SMALL, methods=("ProbMix",), splits=(0, 1, 2), chunk=2, epochs=1)
    jobs = list_jobs(config)
    assert [job.config.splits for job in jobs] == [(0, 1), (2,)]
    assert [job.seed for job in jobs] == [0, 2]
    finish(tmp_path, config, jobs)
    assert sorted(set(numbers(tmp_path)["split"])) == [0, 1, 2]
    cells = [json.loads((tmp_path / "cells" / f"{job.name}.json").read_text()) for job in jobs]
    assert [(cell["seed"], cell["job"]["splits"]) for cell in cells] == [(0, [0, 1]), (2, [2])]


def test_chunks_are_as_large_as_the_workers_allow():
    config = replace(EXPERIMENTS["uci"], dataset="yacht,energy", methods=("ERM", "Mix"))
    assert [chunk_size(config, workers) for workers in (1, 4, 5, 8, 16, 1000)] == [None, None, 10, 10, 5, 1]


def test_a_finished_run_computes_nothing_again(capsys, tmp_path):
    frame = pd.DataFrame({"a": range(40), "y": [k % 7 for k in range(40)]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    arguments = ["run", "table", "--dataset", str(tmp_path / "data.csv"), "--target", "y", "--method", "ERM,Mix"]
    more = ["--seeds", "3", "--chunk", "2", "--epochs", "2", "--out", str(tmp_path / "run")]
    assert main([*arguments, *more]) == 0
    first = (tmp_path / "run" / "results.parquet").read_bytes()
    capsys.readouterr()
    assert main([*arguments, *more]) == 0  # everything is there already; the figures are drawn from the kept weights
    captured = capsys.readouterr()
    assert "ERM" in captured.out and "8/8" in captured.err
    assert (tmp_path / "run" / "results.parquet").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--jobs", "0"], "jobs is 0, expected at least 1"),
        (["--chunk", "0"], "chunk is 0, expected at least 1"),
        (["--backend", "slurm"], "unknown backend 'slurm', expected one of local, ray, dask"),
        (["--address", "tcp://127.0.0.1:1"], "was given without a cluster. Try --backend ray"),
    ],
)
def test_mistakes_get_one_sentence(capsys, tmp_path, arguments, sentence):
    assert main(["run", "toy-regression", "--out", str(tmp_path / "run"), *arguments]) == 1
    err = capsys.readouterr().err
    assert sentence in err and "Try" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("backend", "module"), [("ray", "ray"), ("dask", "distributed")])
def test_a_backend_that_is_not_installed_names_its_extra(capsys, tmp_path, monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["run", "toy-regression", "--backend", backend, "--out", str(tmp_path / "run")]) == 1
    assert f"Try pip install 'pyro_probmix[{backend}]'" in capsys.readouterr().err


def test_each_worker_has_another_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("multiprocessing.current_process", lambda: type("Process", (), {"name": "LokyProcess-6"}))
    assert worker_device(torch.device("cuda")) == torch.device("cuda", 2)
    assert worker_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert worker_device(torch.device("cuda")) == torch.device("cuda")


@pytest.mark.parametrize("ended_by", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_run_that_is_ended_leaves_finished_jobs_and_no_process(tmp_path, ended_by):
    out = tmp_path / "run"
    # A shell lets its background jobs, such as a suite, ignore Ctrl-C, and their children with them.
    heed = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; from pyro_probmix.cli import main; sys.exit(main())"]
    arguments = ["run", "toy-regression", "--seeds", "2", "--epochs", "150", "--jobs", "2", "--out", str(out)]
    process = subprocess.Popen(
        [*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while not (out / "results.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if ended_by == signal.SIGINT:
        os.killpg(process.pid, ended_by)  # as a terminal does, to all processes of the command
    else:
        process.kill()
    _, err = process.communicate(timeout=60)
    if ended_by == signal.SIGINT:
        assert process.returncode == 130, err
        assert "stopped; what was finished is in the run's folder" in err and "Traceback" not in err
    assert 1 <= len(set(numbers(out)["method"])) < 9
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):  # the group is empty
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.1)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_run_killed_at_random_moments_computes_nothing_twice(tmp_path, kills):
    """Finished cells are not touched again, those in flight go on from their checkpoints, and no number changes."""
    config = replace(SMALL, methods=("ERM", "ProbMix", "M-ProbMix", "LocMix"), epochs=60)
    out = tmp_path / "run"
    command = [sys.executable, "-c", "import sys; from pyro_probmix.cli import main; sys.exit(main())"]
    arguments = ["run", "toy-regression", "--method", ",".join(config.methods), "--seeds", "2", "--epochs", "60"]
    moments = random.Random(0)
    seen: dict[str, int] = {}
    for attempt in range(kills + 1):
        process = subprocess.Popen([*command, *arguments, "--out", str(out)], stderr=subprocess.PIPE, text=True)
        if attempt < kills:
            try:
                process.wait(moments.uniform(2.0, 8.0))
            except subprocess.TimeoutExpired:
                process.kill()
        _, err = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGKILL), err
        assert "Traceback" not in err
        cells = {path.name: path.stat().st_mtime_ns for path in out.glob("cells/*.json")}
        assert seen.items() <= cells.items()
        seen = cells
        for path in out.glob("*.parquet"):
            pd.read_parquet(path)
    finish(tmp_path / "whole", replace(config, num_samples=100), list_jobs(replace(config, num_samples=100)))
    pd.testing.assert_frame_equal(numbers(out), numbers(tmp_path / "whole"))
    assert not list(out.glob("checkpoints/*.safetensors"))


def test_two_runs_on_one_folder_do_no_harm(alone, tmp_path):
    """Both go on to the end, and the tables hold each cell once."""
    opened = [RunFolder(tmp_path, SMALL, "cpu") for _ in range(2)]
    first, second = list_jobs(SMALL)
    waiting = [folder.unfinished([first, second]) for folder in opened]
    run(waiting[0][:1], opened[0])
    run(waiting[1], opened[1])
    run(waiting[0][1:], opened[0])
    pd.testing.assert_frame_equal(numbers(tmp_path), numbers(alone))


@pytest.mark.parametrize("best_epoch", ["both", "last"])
@pytest.mark.parametrize("ended_after", [4, 9])
def test_a_job_with_its_last_epoch_goes_on_from_where_it_was_ended(tmp_path, best_epoch, ended_after):
    """Ended in the middle of a training, or between its end and the scores, it leaves the weights of both epochs."""
    config = replace(SMALL, methods=("M-ProbMix",), epochs=9, learning_rate=0.2, best_epoch=best_epoch)
    job, device, path = list_jobs(config)[0], torch.device("cpu"), tmp_path / "job.safetensors"

    def end(epoch, _best):
        if epoch == ended_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, device, end, Checkpoint(path, seconds=0))
    epochs: list[int] = []
    resumed = run_job(job, device, lambda epoch, _best: epochs.append(epoch), Checkpoint(path))
    whole = run_job(job, device)
    assert epochs == list(range(ended_after + 1, 10)) and not resumed.warnings
    for one, other in zip(resumed.scored, whole.scored, strict=True):
        assert one.setting == other.setting and one.curves == other.curves
        assert {**one.values, "seconds": 0} == {**other.values, "seconds": 0}
    assert len({tuple(one.values["nll"]) for one in whole.scored}) == (2 if best_epoch == "both" else 1)
    for name, weights in whole.weights.items():
        assert torch.equal(resumed.weights[name], weights), name


def test_a_job_in_flight_goes_on_from_its_checkpoint(tmp_path):
    job = list_jobs(replace(SMALL, methods=("M-ProbMix",), epochs=5))[0]
    path = tmp_path / "job.safetensors"

    def stop(epoch, _best):
        if epoch == 3:
            raise KeyboardInterrupt

    device = torch.device("cpu")
    with pytest.raises(KeyboardInterrupt):
        run_job(job, device, stop, Checkpoint(path, seconds=0))
    epochs: list[int] = []
    resumed = run_job(job, device, lambda epoch, _best: epochs.append(epoch), Checkpoint(path, seconds=0))
    whole = run_job(job, device)
    assert epochs == [4, 5]
    for name, weights in whole.weights.items():
        assert torch.equal(resumed.weights[name], weights), name
    assert {**resumed.scored[0].values, "seconds": 0} == {**whole.scored[0].values, "seconds": 0}
    for count, content in enumerate((path.read_bytes()[:-3], b"of somebody else")):
        path.write_bytes(content)
        anew = run_job(job, device, None, Checkpoint(path))
        kept = path.with_name(path.name + (".unused" if count == 0 else f".unused{count}"))
        assert kept.read_bytes() == content
        assert len(anew.warnings) == 1
        assert f"It was put aside as '{kept.name}', and the job begins anew." in anew.warnings[0][1]
        assert torch.equal(anew.weights["likelihood.linear.weight"], whole.weights["likelihood.linear.weight"])


def test_the_chosen_setting_tries_as_often_for_each_method_and_looks_at_validation_rows_alone(tmp_path):
    config = replace(SMALL, setting="chosen", methods=("ERM", "ProbMix"), betas=(0.0, 0.01))
    jobs = list_jobs(config)
    assert [len(job.tries) for job in jobs] == [6, 6]
    assert len({one.start for one in jobs[0].tries}) == 6 and len({(one.alpha, one.beta) for one in jobs[1].tries}) == 6
    blind = [replace(job, problem=replace(job.problem, test=job.problem.validation)) for job in jobs]
    for job, other in zip(jobs, blind, strict=True):
        values, same = (run_job(one, torch.device("cpu")).scored[0].values for one in (job, other))
        tried = {name: sum(nll) for name, nll in values.items() if name.startswith("validation nll, ")}
        assert len(tried) == 6
        chosen = f"alpha={values['alpha'][0]:g} beta={values['beta'][0]:g}"
        assert sum(values["validation nll"]) == min(tried.values())
        assert min(tried, key=lambda name: tried[name]).startswith(f"validation nll, {chosen}")
        assert same["alpha"] == values["alpha"] and same["beta"] == values["beta"]


def test_similarity_kernels_are_tried_at_several_alphas():
    """All tries train together, each by its own alpha."""
    config = replace(SMALL, setting="chosen", methods=("SK-Mixup",), alphas=(0.001, 10.0), betas=(0.0,), epochs=3)
    (job,) = list_jobs(config)
    fitted = fit_method(job.method, job.config, job.problem, job.tries, job.seed)
    assert [one.alpha for one in job.tries] == [0.01, 100.0]
    loss = fitted.fit.train_loss.reshape(3, 2, 2)  # epochs, tries, splits
    assert bool(loss.isfinite().all()) and not torch.equal(loss[:, 0], loss[:, 1])
    values = run_job(job, torch.device("cpu")).scored[0].values
    assert values["alpha"][0] in (0.01, 100.0) and "validation nll, alpha=100 beta=0" in values


def test_the_tries_of_the_chosen_setting_differ_in_what_a_method_uses():
    config = replace(SMALL, setting="chosen")
    used = {"ERM": (), "ADA": (), "MixupMP": ("alpha",), "FOMA": ("alpha",), "C-Mixup": ("alpha", "beta")}
    for name, differing in used.items():
        tries = candidates(config, find_method(name))
        assert len(tries) == len(set(tries)) == len({one.label for one in tries}) == 9
        for value in ("alpha", "beta"):
            assert len({getattr(one, value) for one in tries}) == (3 if value in differing else 1), name
        assert len({one.start for one in tries}) == 9 // 3 ** len(differing)
    assert {one.alpha for one in candidates(config, find_method("MixupMP"))} == {0.1, 1.0, 10.0}


def test_a_grid_scores_every_pair(tmp_path):
    config = replace(
        EXPERIMENTS["ablation-classification"], methods=("ProbMix",), splits=(0, 1), epochs=2, alphas=(0.1, 1.0)
    )
    finish(tmp_path, config, list_jobs(config))
    frame = numbers(tmp_path)
    labels = {f"alpha={alpha} beta={beta}" for alpha in ("0.1", "1") for beta in ("0", "0.01")}
    assert set(frame["setting"]) == labels
    assert (frame[frame["metric"] == "accuracy"].groupby("setting").size() == 2).all()
    calibration = pd.read_parquet(tmp_path / "calibration.parquet")
    assert (calibration.groupby(["setting", "split"])["count"].sum() == 1000).all()
