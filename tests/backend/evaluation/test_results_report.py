"""What `evaluate results` refuses before it works for minutes."""

import pytest

from backend import cli


@pytest.mark.parametrize("name", ["report", "report.txt", "there.md"])
def test_a_report_that_could_not_be_written_is_refused_first(name, tmp_path, capsys):
    (tmp_path / "there.md").mkdir()
    options = ["--output", str(tmp_path / name), "--work", str(tmp_path / "work")]
    assert cli.main(["evaluate", "results", *options], inside=True) == 8
    said = capsys.readouterr().err
    assert f"{name} is no name for a report in Markdown." in said and "results.md" in said
    assert [path.name for path in tmp_path.iterdir()] == ["there.md"]
