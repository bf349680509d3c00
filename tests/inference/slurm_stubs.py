"""Commands of Slurm that do here, as if this machine were two nodes, what they would do there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

NODES = ("localhost", "127.0.0.1")


def sbatch(script: str, *arguments: str) -> int:
    """Run a job file at once, on the first node."""
    told = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": ",".join(NODES),
        "SLURM_NNODES": str(len(NODES)),
        "SLURM_CPUS_PER_TASK": "1",
    }
    return subprocess.run(["bash", script, *arguments], env={**os.environ, **told}).returncode


def scontrol(*arguments: str) -> int:
    """The names of the nodes of a list."""
    assert arguments[:2] == ("show", "hostnames")
    print(arguments[2].replace(",", "\n"))
    return 0


def srun(*line: str) -> int:
    """A command as one task on each node, or on those that are asked for; ends when all have ended."""
    first = next(place for place, one in enumerate(line) if not one.startswith("--"))
    options = dict(one.removeprefix("--").partition("=")[::2] for one in line[:first])
    known = {"overlap", "nodes", "ntasks", "nodelist", "exclude", "kill-on-bad-exit"}
    assert options.keys() <= known
    chosen = [
        node
        for node in NODES
        if node != options.get("exclude") and node == options.get("nodelist", node)
    ]
    assert len(chosen) == int(options.get("nodes", len(NODES)))
    assert len(chosen) == int(options.get("ntasks", len(NODES)))
    tasks = []
    for rank, node in enumerate(chosen):
        told = {"SLURM_NODEID": str(rank), "SLURM_PROCID": str(rank), "SLURMD_NODENAME": node}
        tasks.append(subprocess.Popen(line[first:], env={**os.environ, **told}))

    def stop(number: int, _: object) -> None:
        for task in tasks:
            task.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    failed = 0
    waiting = {task.pid: task for task in tasks}
    while waiting:
        number, status = os.wait()
        waiting.pop(number).returncode = code = os.waitstatus_to_exitcode(status)
        if code and not failed and options.get("kill-on-bad-exit") == "1":
            for task in waiting.values():
                task.terminate()
        failed = failed or abs(code)
    return failed


COMMANDS = {"sbatch": sbatch, "scontrol": scontrol, "srun": srun}


def put(folder: Path) -> Path:
    """A folder of these commands, for PATH."""
    folder.mkdir()
    for name in COMMANDS:
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        file.chmod(0o755)
    return folder


if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
