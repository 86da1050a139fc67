"""The command line: verbs, exit codes, and errors that say what to do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onehull.cli.allocator import SETTINGS, VARIABLE
from onehull.cli.app import EXIT_ERROR, EXIT_SPEC, VERBS, build_app

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "video_feed.yaml"


def onehull(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onehull", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_every_verb_has_help_with_an_example():
    runner = CliRunner()
    names = [verb.__name__.rsplit(".", 1)[-1] for verb in VERBS]
    expected = "demo run update check schema world ingest assemble report prepare train evaluate export features serve"
    assert " ".join(names) == expected
    for name in names:
        result = runner.invoke(build_app(), [name, "--help"])
        assert result.exit_code == 0
        assert re.search(rf"Examples?\s+onehull {name}", result.output), name


def test_a_spec_without_fault():
    done = onehull("check", str(RECIPE))
    assert done.returncode == 0
    assert "no fault" in done.stdout


def test_all_faults_of_a_spec_are_printed_and_the_exit_code_says_so(tmp_path: Path):
    text = RECIPE.read_text().replace("click^1.0", "clik^1.0").replace("batch_size: 1024", "batch_size: 0")
    (tmp_path / "bad.yaml").write_text(text)
    done = onehull("check", "bad.yaml", cwd=tmp_path)
    assert done.returncode == EXIT_SPEC
    assert "training.batch_size must be greater than or equal to 1. Received 0" in done.stderr
    assert "Did you mean 'click'?" in done.stderr
    assert "2 faults" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_looks_at_files_and_columns_when_it_is_given_data(tmp_path: Path):
    done = onehull("check", str(RECIPE), "--data", str(tmp_path))
    assert done.returncode == EXIT_SPEC
    assert "impressions-*.jsonl" in done.stderr


def test_a_verb_without_the_one_before_says_which_command_to_run(small_feed, tmp_path: Path):
    spec = tmp_path / "spec.json"
    spec.write_text(small_feed.spec.model_dump_json())
    done = onehull("train", str(spec), "--data", str(small_feed.data), "--out", str(tmp_path / "out"))
    assert done.returncode == EXIT_ERROR
    assert f"onehull prepare {spec}" in done.stderr
    assert "Traceback" not in done.stderr


def test_verbs_keep_what_stands_there(small_feed, tmp_path: Path):
    spec = tmp_path / "spec.json"
    spec.write_text(small_feed.spec.model_dump_json())
    where = ["--data", str(small_feed.data), "--out", str(small_feed.out)]
    runner = CliRunner()
    for verb in ("assemble", "evaluate", "export", "run"):
        result = runner.invoke(build_app(), [verb, str(spec), *where])
        assert result.exit_code == 0, result.output
        assert "kept" in result.output
    assert "AUC" in result.output


def test_an_absent_file_and_an_unknown_verb_are_errors_without_a_traceback(tmp_path: Path):
    absent = onehull("run", str(tmp_path / "absent.yaml"))
    assert absent.returncode == EXIT_ERROR
    assert "absent.yaml cannot be read" in absent.stderr
    unknown = onehull("rnu")
    assert unknown.returncode == EXIT_SPEC
    assert "Did you mean" in unknown.stderr
    assert "Traceback" not in absent.stderr + unknown.stderr


@pytest.mark.parametrize(("given", "wanted"), [(None, SETTINGS), ("narenas:2", "narenas:2")])
def test_polars_keeps_freed_memory_unless_the_user_says_otherwise(given: str | None, wanted: str):
    """The variable must be there before Polars is imported, so that nothing on the way may import it."""
    code = "import os, sys, onehull.cli.app as app; assert 'polars' not in sys.modules; app.divert = lambda: None\n"
    code += "try: app.main()\nexcept SystemExit: print(os.environ['_RJEM_MALLOC_CONF'])"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {VARIABLE: given} if given else {}
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == wanted


def test_the_version():
    done = onehull("--version")
    assert re.fullmatch(r"onehull \d+\.\d+\.\d+\n", done.stdout)


def test_the_schema_is_json_on_standard_output():
    done = onehull("schema")
    assert done.stdout == (ROOT / "spec.schema.json").read_text()


@pytest.mark.parametrize("name", ["video_feed", "kuairand", "census_income"])
def test_recipes_are_found_beside_the_package(name):
    from onehull.cli.demo import recipe_path

    assert recipe_path(name).is_file()
