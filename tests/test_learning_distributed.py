"""Two processes train as one does: same steps, same weights, one set of files, one message."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from distributed_worker import gradients, share_gradient
from learning_data import make_dataset

from midog_qupath.dataset.store import Dataset
from midog_qupath.learning.distributed import Team
from midog_qupath.learning.runlog import read_log
from midog_qupath.models.bundle import load_bundle
from midog_qupath.models.student import Student


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Together:
    """What two processes left in a folder, and how each ended: exit code, standard error."""

    folder: Path
    ends: list[tuple[int, str]]


def _start(rank: int, port: int, arguments: list[str]) -> subprocess.Popen[str]:
    torchrun = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    return subprocess.Popen(
        [sys.executable, *arguments], env={**os.environ, **torchrun, **own}, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = tmp_path_factory.mktemp("together")
    make_dataset(folder / "data")
    worker = Path(__file__).with_name("distributed_worker.py")
    ports = [_free_port(), _free_port()]
    running = [_start(rank, ports[0], [str(worker), str(folder), str(ports[1])]) for rank in (0, 1)]
    said = [process.communicate(timeout=1000)[1] for process in running]
    return Together(folder, [(process.returncode, text) for process, text in zip(running, said, strict=True)])


@pytest.mark.long
def test_all_processes_end_with_the_same_weights_and_leave_one_model(together: Together) -> None:
    one, other = (torch.load(together.folder / f"student-{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    stored = load_bundle(together.folder / "model").network.state_dict()
    for name, value in one.items():
        assert torch.equal(value.half(), stored[name].half()), name
    steps = [r[1] for r in read_log(together.folder / "model" / "log.csv") if r[:3:2] == ("student", "total")]
    assert steps == sorted(set(steps))
    assert not (together.folder / "model" / "work").exists()


@pytest.mark.long
def test_the_gradient_is_that_of_the_shares_mean_loss(together: Together) -> None:
    data = Dataset.open(together.folder / "data")
    shares = [gradients(share_gradient(data, rank, 2)) for rank in (0, 1)]
    together = torch.load(together.folder / "gradients-0.pt", weights_only=True)
    for name, value in together.items():
        alone = [share[name] for share in shares if share[name] is not None]
        assert (value is None) == (not alone), name
        if value is not None:
            expected = torch.stack(alone).sum(dim=0) / 2
            assert torch.allclose(value, expected, rtol=1e-4, atol=1e-6), name


def flattened(network: Student) -> torch.Tensor:
    # A part for which a share holds nothing has no gradient there: that counts as zero.
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in network.parameters()]
    )


def test_shares_point_the_same_way_as_the_whole_batch(tmp_path: Path) -> None:
    # Not equal: each loss is a mean over what its share holds, as in any data-parallel training.
    data = make_dataset(tmp_path / "data")
    whole, *shares = (
        flattened(share_gradient(data, *share, frozen_norm=True)) for share in ((0, 1), (0, 2), (1, 2))
    )
    mean = (shares[0] + shares[1]) / 2
    assert torch.cosine_similarity(whole, mean, dim=0) > 0.9


@pytest.mark.long
def test_a_failure_ends_all_with_one_line(together: Together) -> None:
    assert [code for code, _ in together.ends] == [1, 1]
    said = [line for _, text in together.ends for line in text.splitlines() if line.strip()]
    assert len(said) == 1, said
    assert "neither a project nor a dataset" in said[0]


def test_alone_nothing_is_exchanged() -> None:
    team, parameter = Team(), torch.nn.Parameter(torch.ones(2))
    team.average_gradients([parameter], [])
    assert parameter.grad is None
    assert team.first
    assert team.mean(3.0) == 3.0
    assert team.gather("state") == ["state"]
    assert team.once(lambda: None, lambda: "made") == "made"
    assert team.device("cuda") == "cuda"
