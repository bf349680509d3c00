"""Run every benchmark in turn; one that misses its goal does not keep the others from running."""

from __future__ import annotations

from benchmarks import (
    bench_ambiguity,
    bench_collect_server,
    bench_compile,
    bench_margins,
    bench_memory,
    bench_overlap,
    bench_pool_size,
    bench_predict,
    bench_processes,
    bench_prompted_epoch,
    bench_ray,
    bench_slate_editing,
    bench_stage2_step,
    bench_startup,
)
from segpref.progress import console

missed = []
for benchmark in (
    bench_margins,
    bench_slate_editing,
    bench_stage2_step,
    bench_overlap,
    bench_compile,
    bench_ambiguity,
    bench_prompted_epoch,
    bench_predict,
    bench_memory,
    bench_pool_size,
    bench_processes,
    bench_ray,
    bench_collect_server,
    bench_startup,
):
    console.print(benchmark.__name__, style="bold")
    try:
        benchmark.main()
    except SystemExit as end:
        console.print(end.code)
        missed.append(benchmark.__name__)
    print()

if missed:
    raise SystemExit(f"not as they should be: {', '.join(missed)}")
