"""CPU time of the tests, which unlike their durations is hardly longer on a busy machine.

`--cpu-times N` shows it; `--write-cpu-times` writes that of the slow tests to `cpu_seconds.txt`, which marks them.
"""

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

SLOW = 0.5  # seconds
MEASURED = Path(__file__).with_name("cpu_seconds.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "show the N tests that took most CPU time, processes that they started included (0: all tests)"
    group = parser.getgroup("reporting")
    group.addoption("--cpu-times", type=int, metavar="N", help=text)
    group.addoption(
        "--write-cpu-times",
        action="store_true",
        help=f"write the CPU time of the tests of more than {SLOW} s to tests/{MEASURED.name}, which marks them slow",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu-times") is not None or config.getoption("--write-cpu-times"):
        config.pluginmanager.register(CpuTimes())


def function_of(test: str) -> str:
    """File and function of a test's id, without its parameters: `cli/test_demo.py::test_it`."""
    return test.partition("[")[0].removeprefix("tests/")


def read_measured() -> dict[str, float]:
    """CPU seconds of the slow test functions, those of the slowest parameters; and of files whose every test is slow.

    In such a file each test may be the one that starts a server or a browser for the others.
    """
    lines = (line.split() for line in MEASURED.read_text(encoding="utf-8").splitlines())
    return {function: float(seconds) for seconds, function in lines}


def write_measured(seconds: dict[str, float]) -> None:
    """Update the measured functions, and forget those that have become quick."""
    measured: Counter[str] = Counter()
    for test, of_test in seconds.items():
        measured[function_of(test)] = max(measured[function_of(test)], of_test)
    known = read_measured()
    slow = sorted((known | {name: s for name, s in measured.items() if name.partition("::")[0] not in known}).items())
    MEASURED.write_text("".join(f"{s:.1f} {function}\n" for function, s in slow if s > SLOW), encoding="utf-8")


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
        if config.getoption("--write-cpu-times"):
            write_measured(self.seconds)
        total = self.seconds.total()
        quick = total - sum(self.seconds[test] for test in self.slow)
        terminalreporter.section(
            f"CPU seconds: {total:.1f} for {len(self.seconds)} tests, {quick:.1f} of them for those not marked slow"
        )
        shown = config.getoption("--cpu-times")
        for test, seconds in self.seconds.most_common(shown or None) if shown is not None else ():
            forgotten = seconds > SLOW and test not in self.slow
            terminalreporter.line(f"{seconds:8.2f} {test}{' is not marked slow' * forgotten}")
