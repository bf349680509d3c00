"""Every recipe that comes along gives the jobs on record: their number, their names and their order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from segpref.data import Cache
from segpref.studies import Workspace, load_recipe, recipe_names, study_jobs
from segpref.studies.ambiguity import AmbiguityWorkspace, ambiguity_jobs, load_ambiguity_recipe
from segpref.studies.engine import InProcess, Job, list_jobs, run_jobs
from segpref.studies.prompted import PromptedRecipe, PromptedWorkspace, load_prompted, prompted_jobs

pytestmark = pytest.mark.slow

RECORD = json.loads(Path(__file__).with_name("shipped_jobs.json").read_text())
NOWHERE: Any = None
"""A reader that nobody asks."""


def jobs_of(study: str, out: Path) -> list[Job]:
    kind, name = study.split()
    if kind == "ambiguity":
        return ambiguity_jobs(AmbiguityWorkspace(load_ambiguity_recipe(name), NOWHERE, out))
    if kind == "prompted":
        recipe: PromptedRecipe = load_prompted(name)[0]
        return prompted_jobs(PromptedWorkspace(recipe, out, out, out, Cache(out)))
    return study_jobs(Workspace(load_recipe(name)[0], NOWHERE, out))


def digest(names: Sequence[str]) -> str:
    return hashlib.md5("\n".join(names).encode()).hexdigest()


def test_all_recipes_are_on_record() -> None:
    kinds = {"study": "segpref.studies"}
    kinds |= {name: f"segpref.studies.{name}" for name in ("ambiguity", "prompted")}
    found = {f"{kind} {name}" for kind, package in kinds.items() for name in recipe_names(package)}
    assert found == RECORD.keys()


class Nothing(InProcess):
    """Does no job, and says that each was done."""

    def start(self, out: Path, job: Job) -> None:
        self._ended.append((job.name, None))


@pytest.mark.parametrize("study", RECORD)
def test_a_recipe_is_planned_as_on_record(study: str, tmp_path: Path) -> None:
    jobs = jobs_of(study, tmp_path)
    assert len(jobs) == RECORD[study]["jobs"]
    assert digest([job.shown for job in jobs]) == RECORD[study]["digest"]
    places = {job.name: place for place, job in enumerate(jobs)}
    assert len(places) == len(jobs)
    for place, job in enumerate(jobs):
        assert all(places[need] < place for need in job.needs)


@pytest.mark.parametrize("study", ["study phantoms", "prompted busi-small"])
def test_a_recipe_is_listed_and_scheduled(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of(study, tmp_path)
    list_jobs(jobs)
    assert capsys.readouterr().out.count("to do") == len(jobs)
    assert run_jobs(tmp_path, jobs, Nothing()) == {}
