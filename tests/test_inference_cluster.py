"""A Dask cluster of this machine: the same result, whoever dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
from inference_standin import painted, painted_project, save_untrained

from midog_qupath.errors import ClusterError
from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.models.bundle import load_bundle
from midog_qupath.progress import SILENT
from midog_qupath.project.geojson import read_features
from midog_qupath.project.stores.native import NativeStore

distributed = pytest.importorskip("distributed")
NAMES = "abcd"


@pytest.fixture
def project(tmp_path):
    images = {f"{n}.png": painted(500, 400, [(100 + 20 * i, 100)]) for i, n in enumerate(NAMES)}
    return painted_project(tmp_path / "p", images)


@pytest.fixture
def model(tmp_path):
    return save_untrained(tmp_path / "model.safetensors")


def annotate(project, model, scheduler=None):
    options = AnnotateOptions(sidecar_only=True, scheduler=scheduler)
    bundle = load_bundle(model)
    return annotate_project(project, lambda: NativeStore(project), bundle, model, options, SILENT)


def found(report):
    return {
        name: [(o.roi.geometry.wkt, o.class_name) for o in read_features(report.sidecars / f"{name}.geojson")]
        for name in NAMES
    }


def kill_a_worker_at_work(cluster):
    with distributed.Client(cluster) as client:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            busy = [address for address, tasks in client.processing().items() if tasks]
            if busy:
                os.kill(client.run(os.getpid, workers=busy[:1])[busy[0]], signal.SIGKILL)
                return
            time.sleep(0.02)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_cluster_whose_worker_is_killed_finds_what_this_process_finds(project, model):
    wanted = found(annotate(project, model))
    assert any(wanted.values())
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        killer = threading.Thread(target=kill_a_worker_at_work, args=(cluster,))
        killer.start()
        report = annotate(project, model, cluster.scheduler_address)
        killer.join()
        assert found(report) == wanted
        assert not report.failed
        path = project.folder / "images" / "a.png"
        path.write_bytes(path.read_bytes()[:500])
        again = annotate(project, model, cluster.scheduler_address)
    assert list(again.failed) == ["a.png"]
    assert len(again.jobs) == len(NAMES) - 1


def test_a_scheduler_that_is_not_there_is_one_clear_error(project, model, monkeypatch):
    client = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: client(address, timeout=0.2))
    with pytest.raises(ClusterError, match="no Dask scheduler"):
        annotate(project, model, "tcp://127.0.0.1:9")
