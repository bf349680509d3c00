"""Run every benchmark in turn."""

from __future__ import annotations

from benchmarks import (
    bench_ambiguity,
    bench_collect_server,
    bench_margins,
    bench_memory,
    bench_overlap,
    bench_pool_size,
    bench_predict,
    bench_prompted_epoch,
    bench_slate_editing,
    bench_stage2_step,
    bench_startup,
)
from segpref.progress import console

for benchmark in (
    bench_margins,
    bench_slate_editing,
    bench_stage2_step,
    bench_overlap,
    bench_ambiguity,
    bench_prompted_epoch,
    bench_predict,
    bench_memory,
    bench_pool_size,
    bench_collect_server,
    bench_startup,
):
    console.print(benchmark.__name__, style="bold")
    benchmark.main()
    print()
