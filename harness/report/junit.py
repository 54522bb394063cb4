"""The report as JUnit XML, for continuous integration: one test case a case, one suite a scenario."""

from __future__ import annotations

import re

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.report.record import Report, reached
from harness.report.words import why
from harness.verdict import RUN_ENDINGS, Ending, Verdict

__all__ = ["junit"]

UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped. The last words of a dying worker may have them."""


def junit(report: Report) -> str:
    """The whole report. A case that ran and does not pass is a failure, one whose run failed an error."""
    suites: dict[str, TestSuite] = {}
    for verdict in report.verdicts:
        suites.setdefault(verdict.scenario, TestSuite(verdict.scenario)).add_testcase(_case(verdict))
    whole = JUnitXml("harness")
    for suite in suites.values():
        suite.timestamp = report.started
        whole.add_testsuite(suite)
    whole.update_statistics()
    return whole.tostring().decode()


def _case(verdict: Verdict) -> TestCase:
    case = TestCase(verdict.case, classname=verdict.scenario, time=round(verdict.seconds, 3))
    if verdict.passed:
        return case
    if verdict.ending is Ending.SKIPPED:
        case.result = [Skipped(_clean(verdict.detail or "no reason was given"))]
        return case
    kind = Error if verdict.ending in RUN_ENDINGS else Failure
    found = kind(reached(verdict), str(verdict.ending or verdict.rung))
    found.text = _clean(why(verdict))
    case.result = [found]
    return case


def _clean(text: str) -> str:
    return UNPRINTABLE.sub("?", text)
