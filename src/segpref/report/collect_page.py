"""The page on a study of votes: who said what, how reliably, and what it says of masks and judges."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segpref.preferences import BradleyTerry, Estimate
from segpref.report.collect_charts import days_chart, estimates_chart, precision_chart
from segpref.report.collect_data import CollectFigures, RaterFigures
from segpref.report.collect_judges import JudgeFigures, Preferred
from segpref.report.collect_more import Precision, more_votes
from segpref.report.collect_warnings import collect_warnings
from segpref.report.page import Page, Section, Table

__all__ = ["told", "verdict_of_votes", "votes_page"]

_ANSWERS = {
    "decided": "decided", "tie": "tie", "both-bad": "both bad", "none-good": "none good",
    "cant-tell": "can't tell", "accept": "accepted", "reject": "rejected",
}  # fmt: skip


def votes_page(
    found: CollectFigures,
    precision: Sequence[Precision] = (),
    *,
    title: str = "What people said",
    lead: str = "",
) -> Page:
    """The page of a study of votes; raters are named by pseudonyms.

    Args:
        found: figures of the votes.
        precision: what more votes would bring.
        title: of the page.
        lead: what the study is, in a line.
    """
    good = None
    if found.preferred is not None:
        good = {"better": True, "worse": False}.get(found.preferred.word)
    return Page(
        title=title,
        lead=lead,
        verdict=verdict_of_votes(found),
        good=good,
        warnings=collect_warnings(found),
        caution="Look at this before you use the votes",
        sections=[
            *([_preferred(found.preferred)] if found.preferred is not None else []),
            *([_accepted(found.accepted)] if found.accepted is not None else []),
            *_rater_sections(found),
            *_structures(found),
            *_strengths(found),
            *([_judges(found.judges)] if found.judges else []),
            *_more(precision),
        ],
    )


def told(one: Estimate, *, share: bool = True) -> str:
    """A figure with its interval, as in ``80% (72% to 87%)``; a dash where it is not known."""
    if not one.known:
        return "–"
    value, low, high = (
        f"{number:.0%}" if share else f"{number:.2f}" for number in (one.value, one.low, one.high)
    )
    return value if math.isnan(one.low) else f"{value} ({low} to {high})"


def verdict_of_votes(found: CollectFigures) -> str:
    """The outcome in one sentence or two."""
    if not found.votes:
        return "Nobody has voted yet."
    done = f"{found.normal} of {found.wanted}" if found.wanted else f"{found.normal}"
    said = (
        f"{done} votes of {len(found.raters)} {_plural('rater', len(found.raters))} on {found.images} "
        f"{_plural('image', found.images)} of {found.patients} {_plural('patient', found.patients)}."
    )
    if (one := found.preferred) is not None and one.share.count:
        word = {
            "better": "Raters prefer the tuned model",
            "worse": "Raters prefer the base",
        }.get(one.word, "It is not shown that raters prefer the tuned model or the base")
        return f"{word}: tuned in {told(one.share)} of {one.share.count} decided votes. {said}"
    return said


def _preferred(one: Preferred) -> Section:
    rows = (
        ("tuned was preferred, of decided votes", told(one.share), str(one.share.count)),
        ("the same, interval over patients", told(one.by_patient), f"{one.patients} patients"),
        ("p of one half (exact, two-sided)", f"{one.p_value:.2g}", ""),
        ("ties", "", str(one.ties)),
        ("both bad", "", str(one.both_bad)),
        ("can't tell", "", str(one.cant_tell)),
    )
    return Section(
        "Base or tuned",
        "Masks of both models on images of patients that neither was tuned on, sides by chance; raters "
        "did not know which was which.",
        Table(("", "share (95 % interval)", "of"), rows),
        note="Ties and undecided votes are left out of the share. Better or worse needs both intervals "
        "on one side of one half, and at least 6 patients.",
    )


def _accepted(one: Estimate) -> Section:
    rows = (("accepted", told(one), str(one.count)),)
    return Section("Accept or reject", table=Table(("", "share (95 % interval)", "of"), rows))


def _rater_sections(found: CollectFigures) -> list[Section]:
    if not found.raters:
        return []
    kinds = [k for k in _ANSWERS if any(k in one.answers for one in found.raters.values())]
    header = (
        "Rater",
        "votes",
        "taken back",
        *(_ANSWERS[k] for k in kinds),
        "days",
        "seconds per vote",
        "left side",
    )
    rows = tuple(
        (
            name, str(one.votes), str(one.taken_back), *(str(one.answers.get(k, 0)) for k in kinds),
            str(len(one.days)), _seconds(one), told(one.side),
        )
        for name, one in found.raters.items()
    )  # fmt: skip
    sections = [
        Section(
            "Who voted",
            "Votes that count, without practice. Seconds are the median and the quartiles; sides were "
            "drawn by chance, and the share of the left one has its exact 95 % interval.",
            Table(header, rows),
            pictures=(days_chart({name: one.days for name, one in found.raters.items()}),),
        ),
        Section(
            "How reliable is each rater?",
            "The flip rate is how often a preference points the wrong way, by known answers, repeats "
            "and the other raters together; training may weigh votes by it.",
            Table(
                ("Rater", "flip rate", "same on repeats", "kappa", "known answers right"),
                tuple(_reliability_row(name, one) for name, one in found.raters.items()),
            ),
            note="95 % intervals: over images for the flip rate, repeats and kappa (bootstrap), exact "
            "binomial for known answers and where none or all repeats were the same. A rater of whom "
            "little is known is counted as wrong in 20 %. A question on which a rater made no choice "
            "tells nothing about the flip rate. Questions whose answer is known are often easier than "
            "the others, and a mistake that is made twice is not seen: the true rate may be higher.",
        ),
    ]  # fmt: skip
    if len(found.raters) > 1:
        sections.append(_between(found))
    return sections


def _seconds(one: RaterFigures) -> str:
    times = one.times
    if not times.count:
        return "–"
    return f"{times.median:.1f} ({times.lower:.1f} to {times.upper:.1f})"


def _reliability_row(name: str, one: RaterFigures) -> tuple[str, ...]:
    return (
        name,
        "–" if one.reliability is None else told(one.reliability.flip_rate),
        _counted(one.repeats.same),
        told(one.repeats.kappa, share=False),
        _counted(one.gold),
    )


def _counted(one: Estimate) -> str:
    return f"{told(one)} of {one.count}" if one.count else "–"


def _between(found: CollectFigures) -> Section:
    one = found.between
    rows = [
        ("Krippendorff's alpha, answers as categories", one.alpha),
        ("Krippendorff's alpha, first < tie < second", one.ordinal),
        (f"Fleiss' kappa ({one.fleiss_raters} raters)", one.fleiss),
        *((f"Cohen's kappa, {a} and {b}", kappa) for (a, b), kappa in one.cohen.items()),
    ]
    shown = tuple((name, told(value, share=False), str(value.count)) for name, value in rows)
    return Section(
        "Do raters agree with each other?",
        "1 is perfect agreement, 0 is chance. First answers to questions that two or more answered.",
        Table(("", "value (95 % interval)", "questions"), shown),
        note="Intervals come from resampling images (bootstrap).",
    )


def _structures(found: CollectFigures) -> list[Section]:
    if len(found.structures) < 2:
        return []
    rows = tuple(
        (
            name, str(one.votes), told(one.decided), _counted(one.same),
            told(one.alpha, share=False), _counted(one.gold),
        )
        for name, one in found.structures.items()
    )  # fmt: skip
    header = ("Structure", "votes", "decided", "same on repeats", "alpha", "known answers right")
    return [Section("Structure by structure", table=Table(header, rows))]


def _strengths(found: CollectFigures) -> list[Section]:
    said = []
    for what, model in (("proposal family", found.families), ("model", found.models)):
        if model is not None and len(model.strength) > 1:
            said.append(_strength(what, model))
    return said


def _strength(what: str, model: BradleyTerry) -> Section:
    rows = tuple(
        (name, told(one, share=False), str(one.count))
        for name, one in sorted(model.strength.items(), key=lambda item: -item[1].value)
    )
    return Section(
        f"Which {what} makes better masks?",
        "Davidson's Bradley-Terry model with ties and a term for the side. A difference of 1 means "
        "that the stronger is preferred 2.7 times as often. Between equals the left one is chosen with "
        f"odds of {math.exp(model.side.value):.2f}, and {model.tie.value:.0%} of the answers are ties.",
        Table((what.capitalize(), "log-strength (95 % interval)", "comparisons"), rows),
        pictures=(estimates_chart("Strength", "log-strength", model.strength, 0.0),),
        note="Intervals come from resampling patients (bootstrap). " + model.statement,
    )


def _judges(judges: Sequence[JudgeFigures]) -> Section:
    rows = tuple(
        (one.judge, one.structure, told(one.agreement), told(one.right), str(one.agreement.count))
        for one in judges
    )
    best = max(judges, key=lambda one: -1.0 if math.isnan(one.agreement.low) else one.agreement.low)
    low = best.agreement.low
    sentence = (
        f"{best.judge[0].upper()}{best.judge[1:]} orders pairs as raters do more often than by chance "
        f"({best.structure})."
        if low > 0.5
        else "No judge is shown to order pairs as raters do more often than by chance."
    )
    return Section(
        "Which judge can be trusted here?",
        f"How often a judge gives the mask that raters prefer the higher score. {sentence}",
        Table(
            ("Judge", "structure", "agrees with raters", "right, raters' errors taken out", "of"),
            rows,
        ),
        note="Intervals come from resampling patients (bootstrap). The fourth column assumes that "
        "raters err at their flip rates, whatever the judge says.",
    )


def _more(precision: Sequence[Precision]) -> list[Section]:
    known = [one for one in precision if one.votes and math.isfinite(one.scale)]
    if not known:
        return []
    return [
        Section(
            "Are more votes worth asking for?",
            more_votes(known),
            pictures=(precision_chart(known),),
            note="Points: half of the 95 % interval with a part of the images or patients, and with "
            "all. Lines: proportional to 1 / √votes.",
        )
    ]


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
