"""Splits by patient into train, judge, validation and test: seeded, and kept in a file."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from segpref.checking import checked
from segpref.data.cache import write_atomically
from segpref.data.dataset import Dataset
from segpref.data.source import Reader
from segpref.late import late
from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = [
    "PARTS",
    "Split",
    "cross_validation",
    "draw_cases",
    "draw_patients",
    "refuse_leakage",
    "split_beside",
    "split_patients",
]

optimize, sparse = late("scipy.optimize"), late("scipy.sparse")

PARTS = ("train", "judge", "validation", "test")


@checked()
@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint sets of patients.

    Args:
        train: labelled cases of the base are drawn from here; the rest is the unlabelled pool.
        judge: labelled cases of the judge are drawn from here.
        validation: chooses checkpoints and settings.
        test: read once per checkpoint that is reported.
        by_patient: False where nothing links volumes to patients, so that volumes were split.
    """

    train: tuple[str, ...]
    judge: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    by_patient: bool = True

    def __post_init__(self) -> None:
        refuse_leakage({part: getattr(self, part) for part in PARTS})

    def save(self, path: Path) -> None:
        """Write the split as JSON."""
        content = {part: list(getattr(self, part)) for part in PARTS}
        text = json.dumps({"by_patient": self.by_patient, **content}, indent=1)
        write_atomically(path, text.encode())

    def keep(self, path: Path) -> None:
        """Write the split as JSON where none is.

        Raises:
            SegprefError: another split is there.
        """
        if not path.exists():
            self.save(path)
        elif Split.load(path) != self:
            raise SegprefError(
                f"{path} holds another split of the patients: give it as the split, remove it, or "
                "choose another --out"
            )

    def without(self, patient: str) -> Split:
        """The same split, in which a patient is in no part."""
        kept = {part: tuple(one for one in getattr(self, part) if one != patient) for part in PARTS}
        return Split(**kept, by_patient=self.by_patient)

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read a split; a patient in two parts is refused."""
        content = read_json(Path(path), "correct it, or leave it out for a new split")
        try:
            parts = {part: _patients(content[part]) for part in PARTS}
        except (ValueError, KeyError, TypeError) as error:
            raise SegprefError(
                f"{path} is not a split file: it needs lists of patients under {', '.join(PARTS)}"
            ) from error
        try:
            return cls(**parts, by_patient=bool(content.get("by_patient", True)))
        except SegprefError as error:
            raise SegprefError(f"{path}: {error}") from error


def split_beside(model: Path) -> Path | None:
    """The file of the split that a model of segpref's own was trained with, where it is there."""
    file = (model if model.is_dir() else model.parent) / "split.json"
    return file if file.exists() else None


def _patients(names: Any) -> tuple[str, ...]:
    """The patients of a list, who may be numbers; accents are written as in ids."""
    plain = isinstance(names, list) and not any(isinstance(name, bool) for name in names)
    if not plain or not all(
        isinstance(name, int) or (isinstance(name, str) and name) for name in names
    ):
        raise TypeError
    return tuple(unicodedata.normalize("NFC", str(name)) for name in names)


def refuse_leakage(parts: Mapping[str, Iterable[str]]) -> None:
    """Raise where a patient is in two of the named sets."""
    seen: dict[str, str] = {}
    for part, patients in parts.items():
        for patient in patients:
            if patient in seen:
                raise SegprefError(
                    f"patient {patient} is in {seen[patient]!r} and in {part!r}: that leaks what is "
                    "to be measured; keep each patient in one part"
                )
            seen[patient] = part


def split_patients(
    reader: Reader,
    sizes: Mapping[str, float],
    seed: int = 0,
    seen: Collection[str] = (),
) -> Split:
    """Draw a split, balanced over strata where the sources have them.

    Of ``n_s`` patients of stratum s among all ``n``, a part of ``m`` patients gets
    ``n_s m / n``, rounded down or up, and the parts have exactly the sizes that are asked for.

    Args:
        reader: the dataset; only patients with labels are split.
        sizes: patients per part, as counts or, where all are below 1, as fractions; ``train`` may be
            left out and then takes the rest.
        seed: the same seed gives the same split.
        seen: patients that a model was trained with: they go to ``train``, and the others are split.
    """
    rng = np.random.default_rng([seed, 0x517])
    everybody = _shuffled_strata(reader, rng)
    strata = [[name for name in names if name not in seen] for names in everybody]
    counts = _counts(sizes, sum(map(len, strata)))
    members = _dealt(strata, [counts[part] for part in PARTS], rng)
    members[0] += [name for names in everybody for name in names if name in seen]
    parts = {part: tuple(sorted(names)) for part, names in zip(PARTS, members, strict=True)}
    return Split(**parts, by_patient=reader.patients_known)


def cross_validation(
    reader: Reader, folds: int, fold: int, sizes: Mapping[str, float], seed: int = 0
) -> Split:
    """Split for one fold: it is tested on, and the other patients are split by ``sizes``.

    Folds are disjoint, together all patients, equal in size within one and balanced over strata.

    Args:
        reader: the dataset; only patients with labels are split.
        folds: how many there are, from 2.
        fold: which one is tested on, from 0.
        sizes: as in :func:`split_patients`, of the patients that are not tested on, without ``test``.
        seed: of the folds and of the other parts.

    Raises:
        SegprefError: fewer than two folds or patients in a fold, or sizes that name ``test``.
    """
    if "test" in sizes:
        raise SegprefError(
            "with folds, test is the fold that is left out: take `test` out of the split"
        )
    rng = np.random.default_rng([seed, 0xF01D])
    strata = _shuffled_strata(reader, rng)
    patients = sum(map(len, strata))
    if not 2 <= folds <= patients:
        raise SegprefError(
            f"{patients} labelled patients can't be cut into {folds} folds: ask for 2 to {patients}"
        )
    cuts = [patients * (n + 1) // folds - patients * n // folds for n in range(folds)]
    test = set(_dealt(strata, cuts, rng)[fold])
    rest = [[name for name in names if name not in test] for names in strata]
    counts = _counts({**sizes, "test": 0}, patients - len(test))
    members = _dealt(rest, [counts[part] for part in PARTS[:-1]], rng)
    parts = {part: tuple(sorted(names)) for part, names in zip(PARTS, members, strict=False)}
    return Split(**parts, test=tuple(sorted(test)), by_patient=reader.patients_known)


def draw_patients(patients: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """``count`` of the patients, at random."""
    if not 1 <= count <= len(patients):
        raise SegprefError(
            f"{count} labelled patients were asked for, of {len(patients)}: ask for 1 to "
            f"{len(patients)}"
        )
    rng = np.random.default_rng([seed, 0x5E9])
    return tuple(sorted(rng.choice(sorted(patients), count, replace=False).tolist()))


def draw_cases(dataset: Dataset, count: int, seed: int) -> Dataset:
    """``count`` of the cases (slices in 2D), at random: what ``N_QC`` of ACDC counts."""
    if not 1 <= count <= len(dataset):
        raise SegprefError(
            f"{count} labelled cases were asked for, of {len(dataset)}: ask for 1 to {len(dataset)}"
        )
    rng = np.random.default_rng([seed, 0x9C])
    return dataset.take(sorted(rng.choice(len(dataset), count, replace=False).tolist()))


def _dealt(
    strata: Sequence[Sequence[str]], parts: Sequence[int], rng: np.random.Generator
) -> list[list[str]]:
    """Patients of every part, which gets its share of every stratum."""
    members: list[list[str]] = [[] for _ in parts]
    for names, row in zip(strata, _allocation([*map(len, strata)], parts, rng), strict=True):
        left = iter(names)
        for part, share in zip(members, row, strict=True):
            part += islice(left, int(share))
    return members


def _shuffled_strata(reader: Reader, rng: np.random.Generator) -> list[list[str]]:
    """The labelled patients of every stratum in a random order."""
    # Images of one patient may differ in stratum; the patient is still drawn once.
    stratum_of: dict[str, str] = {}
    for source in (source for source in reader.sources() if source.labels):
        stratum_of.setdefault(source.patient, source.stratum or "")
    strata: dict[str, set[str]] = {}
    for patient, stratum in stratum_of.items():
        strata.setdefault(stratum, set()).add(patient)
    return [rng.permutation(sorted(names)).tolist() for _, names in sorted(strata.items())]


def _allocation(
    strata: Sequence[int], parts: Sequence[int], rng: np.random.Generator
) -> Int64[np.ndarray, "stratum part"]:
    """How many patients of every stratum every part gets: a controlled rounding of the exact shares.

    Every share is rounded down or up while the sums over strata and over parts stay what they are;
    there is always such a rounding (Cox, Journal of the American Statistical Association 1987). It
    is drawn at random: if the sums did not tie the shares to each other, a share of 2.3 would
    become 3 with probability 0.3, so that small strata come into every part.

    Args:
        strata: patients per stratum.
        parts: patients per part; remaining patients of the strata are not used.
        rng: draws the rounding.
    """
    patients = np.array(strata, dtype=np.int64)
    # Nowhere counts as one more part, so that all sums are known.
    wanted = np.array([*parts, patients.sum() - sum(parts)], dtype=np.int64)
    total = max(1, patients.sum())
    # Whole numbers here: a share of exactly 2 must not become 3 by an error in its last bit.
    low, rest = np.divmod(patients[:, None] * wanted, total)
    rows, columns = low.shape
    # A transport problem: its optimum lies in a corner, and its corners are whole numbers.
    up = optimize.linprog(
        (rng.random(low.shape) - rest / total).ravel(),
        A_eq=sparse.vstack(
            [
                sparse.kron(sparse.eye(rows), np.ones((1, columns))),
                sparse.kron(np.ones((1, rows)), sparse.eye(columns)),
            ]
        ),
        b_eq=np.concatenate([patients - low.sum(axis=1), wanted - low.sum(axis=0)]),
        bounds=np.stack([np.zeros(low.size), rest.ravel() > 0], axis=1),
        options={"presolve": False},  # it takes a hundred times as long as the solution
    )
    assert up.success, up.message
    rounded: Int64[np.ndarray, "stratum part"] = low + np.rint(up.x).astype(int).reshape(low.shape)
    return rounded[:, :-1]


def _counts(sizes: Mapping[str, float], patients: int) -> dict[str, int]:
    if unknown := set(sizes) - set(PARTS):
        raise SegprefError(f"a split has the parts {', '.join(PARTS)}, not {sorted(unknown)}")
    if min(sizes.values(), default=0) < 0:
        raise SegprefError(f"the parts of a split can't be negative, as in {dict(sizes)}")
    if all(size < 1 for size in sizes.values()):
        counts = _rounded(sizes, patients)
    else:
        counts = {part: int(size) for part, size in sizes.items()}
    if empty := [part for part, size in sizes.items() if size > 0 and not counts[part]]:
        raise SegprefError(
            f"of {patients} labelled patients none is left for {', '.join(empty)} under the split "
            f"{dict(sizes)}: give counts, or larger fractions"
        )
    rest = patients - sum(counts.values())
    counts.setdefault("train", max(rest, 0))
    for part in PARTS:
        counts.setdefault(part, 0)
    if sum(counts.values()) > patients or counts["train"] < 1:
        raise SegprefError(
            f"a split of {dict(sizes)} needs more than the {patients} labelled patients there are: "
            "ask for fewer, with at least one left to train on"
        )
    return counts


def _rounded(sizes: Mapping[str, float], patients: int) -> dict[str, int]:
    """Fractions as counts whose sum is rounded once, so that parts of a whole use all patients."""
    counts, total, given = {}, 0.0, 0
    for part in PARTS:
        if part in sizes:
            total += sizes[part]
            counts[part] = round(total * patients + 1e-9) - given
            given += counts[part]
    return counts
