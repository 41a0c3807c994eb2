"""Drivers on a Ray cluster of two nodes, both on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.measure.calibrate import DIALECT, errors, key_of, null_server, read_truth
from harness.measure.decode import decode
from harness.measure.endpoint import local
from harness.measure.http import job_of
from harness.measure.ray_workers import replay_on_ray
from harness.schedule import Request, Schedule

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    utils = pytest.importorskip("ray.cluster_utils", reason="the extra `ray` is not installed")
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


def test_two_nodes_bring_one_result_with_their_clocks_compared(cluster: str, tmp_path: Path) -> None:
    schedule = Schedule(tuple(Request(i, tuple(range(i, i + 8)), 8) for i in range(24)), 8)
    with null_server(0.05, 0.01) as endpoint:
        job = job_of(endpoint, DIALECT, schedule, 10.0)
        replayed, machines = replay_on_ray(job, 2, cluster, tmp_path)
        truths = read_truth(endpoint)
    records = sorted(decode(replayed, schedule, DIALECT.parse), key=lambda r: r.index)
    assert [(r.index, r.error, r.output_tokens) for r in records] == [(i, None, 8) for i in range(24)]
    assert len({machine["node"] for machine in machines}) == 2
    for machine in machines:
        # Both nodes are this machine and have its clock: what is measured must be 0 within what it claims.
        assert abs(machine["clock_offset_ns"]) <= machine["clock_uncertainty_ns"]
        assert 0 < machine["clock_uncertainty_ns"] < 20_000_000
    # Each keeps its own zero, the common moment on its own clock: times count from one moment.
    first = {min(r.sent_s or 9.0 for r in records if r.index % 2 == k) for k in (0, 1)}
    assert all(0 <= sent < 1.0 for sent in first)
    keys = {order.index: key_of(order.payload.split(b"\r\n\r\n", 1)[1]) for order in job.orders}
    found = errors(records, keys, truths, (0.05, 0.01))
    assert len(found.ttft_s) == 24 and -0.001 < found.ttft_s.min() < 0.05


def test_where_no_cluster_is_it_says_so() -> None:
    job = job_of(local(9), DIALECT, Schedule((Request(0, (1,), 1),), 1), 1.0)
    with pytest.raises(HarnessError, match="no Ray cluster there"):
        replay_on_ray(job, 1, "127.0.0.1:1", None)
