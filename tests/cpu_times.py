"""`--cpu-times N`: CPU time of the tests, which unlike their durations is hardly longer on a busy machine."""

import os
from collections import Counter
from collections.abc import Generator

import pytest

SLOW = 5.0  # seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "show the N tests that took most CPU time, processes that they started included (0: all tests)"
    parser.getgroup("reporting").addoption("--cpu-times", type=int, metavar="N", help=text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu-times") is not None:
        config.pluginmanager.register(CpuTimes())


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class CpuTimes:
    def __init__(self) -> None:
        self.begin = cpu_seconds()
        self.seconds: Counter[str] = Counter()
        self.slow: set[str] = set()

    def pytest_runtest_logstart(self) -> None:
        self.begin = cpu_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = cpu_seconds()
        report.cpu_seconds, self.begin = now - self.begin, now  # type: ignore[attr-defined] # xdist sends it along
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.cpu_seconds  # type: ignore[attr-defined]
        if "slow" in report.keywords:
            self.slow.add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        total = self.seconds.total()
        quick = total - sum(self.seconds[test] for test in self.slow)
        terminalreporter.section(
            f"CPU seconds: {total:.1f} for {len(self.seconds)} tests, {quick:.1f} of them for those not marked slow"
        )
        for test, seconds in self.seconds.most_common(config.getoption("--cpu-times") or None):
            forgotten = seconds > SLOW and test not in self.slow
            terminalreporter.line(f"{seconds:8.2f} {test}{' is not marked slow' * forgotten}")
