"""`tidesight tune` before and after it measures; the measuring itself has functional tests."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidesight.commands import tune_report
from tidesight.commands.tune import tune
from tidesight.detection.embedded import embedded_model
from tidesight.errors import ConfigError, ModelError
from tidesight.tuning import session


@pytest.mark.parametrize("flag", ["show", "forget", "no_save"])
def test_a_model_that_is_not_there_is_told(flag: str, tmp_path: Path) -> None:
    what: dict[str, Any] = {flag: True}
    with pytest.raises(ModelError, match="no model file"):
        tune(tmp_path / "absent.onnx", **what)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was done, in order, of a search that measures nothing."""
    done: list[str] = []

    class Fake:
        stick = None

        def __init__(self, *arguments: object) -> None:
            done.append("read")

        def space(self, wishes: object) -> None:
            return None

        def search(self, space: object, seconds: float) -> Any:
            return SimpleNamespace(run=lambda bounds, effort: SimpleNamespace(chosen=object()))

        def save(self, *arguments: object) -> None:
            done.append("save")
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(session, "Session", Fake)
    monkeypatch.setattr(tune_report.Report, "print", lambda self, as_json: done.append("print"))
    monkeypatch.setattr(tune_report.Report, "conditions", lambda self: {})
    monkeypatch.setattr(tune_report.Report, "plot", lambda self, page: "<svg/>")
    return done


def run(tmp_path: Path, **options: Any) -> None:
    """Call the command as Typer does, with values for all options."""
    plain: dict[str, Any] = {"p99_ms": 500, "max_ap_drop": 0, "seconds": 1, "rounds": 1, "pictures": 1}
    tune(embedded_model(), tmp_path, **plain | options)


def test_a_choice_that_cannot_be_saved_is_told_after_the_report(searches: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*Permission denied; set TIDESIGHT_TUNED"):
        run(tmp_path)
    assert searches == ["read", "print", "save"]


def test_a_plot_is_written(searches: list[str], tmp_path: Path) -> None:
    run(tmp_path, plot=tmp_path / "plot.svg", no_save=True)
    assert (tmp_path / "plot.svg").read_text() == "<svg/>"
    assert searches == ["read", "print"]


def test_where_a_plot_cannot_be_written_nothing_is_measured(searches: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    for plot, told in (("absent/plot.svg", "no folder"), ("folder.svg", "cannot write"), ("plot.png", "ending in")):
        with pytest.raises(ConfigError, match=told):
            run(tmp_path, plot=tmp_path / plot)
    assert searches == []
