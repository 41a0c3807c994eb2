"""The workloads that schedules are built from in tests."""

from harness.workload.spec import Workload
from harness.workload.traces import TraceRequest
from tests.loads import load

POINT = load(requests=5, concurrency=2)
WORK = Workload(input_tokens=16, output_tokens=4, load=(POINT,))
WORDS = range(10, 500)
TRACE = (
    TraceRequest(0.0, 20, 5),
    TraceRequest(0.5, 10, 6, cancel_after_s=0.25),
    TraceRequest(0.5, 30, 7),
    TraceRequest(4.0, 40, 8),
)
TRACED = Workload(load=(load(arrivals="trace"),), trace="t.jsonl", trace_sha256="0", traced=TRACE)
