import io
import sys

import pytest

from deepseek import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _loud():
    progress.quiet(False)
    yield
    progress.quiet(False)


def test_lines_go_to_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    progress.log("reading")
    progress.warn("odd")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "reading\nwarning: odd\n")


def test_quiet_silences_everything_but_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    progress.quiet()
    progress.log("reading")
    progress.warn("odd")
    with progress.task("work", total=1) as advance:
        advance(1)
    assert capsys.readouterr().err == "warning: odd\n"
    assert progress.is_quiet()


def test_a_hushed_block_leaves_the_process_as_it_was() -> None:
    with progress.hushed():
        assert progress.is_quiet()
    with progress.hushed(False):
        assert not progress.is_quiet()
        progress.quiet()
    assert not progress.is_quiet()
    progress.quiet()
    with progress.hushed(False):
        assert progress.is_quiet()
    assert progress.is_quiet()


def test_without_a_terminal_lines_come_at_a_modest_rate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *(float(second) for second in range(1, 100))])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.task("reading", total=5000) as advance:
        for _ in range(25):
            advance(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading: 1,000 of 5,000 rows"
    assert len(lines) == 2


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.task("read [bold]x", total=2) as advance:
        advance(2)
    assert "read [bold]x" in terminal.getvalue()
