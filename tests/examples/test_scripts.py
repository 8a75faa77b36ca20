"""What all examples have in common: --help, what they import, and how they say what their user can fix."""

import ast
import re
import runpy
import sys

import pytest
from scripts import EXAMPLES, smoke

SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
OF_A_RUN = ["sample.py", "figure2.py"]  # they train nothing: their argument is a run
WRITES_NOTHING = ["live.py"]  # so it has no --out; see test_live.py
NEEDED = {"cifar10.py": ["--model", "fully-connected"]}  # what a call cannot do without; nor can it without its images
HAVE_THEIR_OWN = ["collapse.py", "costs.py", "mnist.py", "theory.py"]  # test of --smoke, in the file about the example


def test_there_are_scripts():
    assert {"first_loop.py", "mnist.py", "sample.py", "theory.py", "figure1.py", "costs.py", "collapse.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_it_does_and_how_it_is_called(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    docstring = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    assert docstring.splitlines()[0] in text
    assert f"python examples/{name}" in text
    assert ("--smoke" in text) == (name not in OF_A_RUN)
    for option in re.findall(r"--[\w-]+", docstring):
        assert re.search(rf"^  {option}\b", text, re.MULTILINE), f"{option} is named and does not exist"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_imports_tinygan_and_other_examples_and_goes_no_other_way(name):
    """So examples/ can be copied anywhere. (A script finds those beside it by itself.)"""
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    assert "sys.path" not in source
    assert "importlib" not in source
    modules = {path.removesuffix(".py") for path in SCRIPTS}
    allowed = sys.stdlib_module_names | modules | {"tinygan", "numpy", "scipy", "matplotlib", "PIL", "tqdm"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported = [node.module]
        else:
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert {module.partition(".")[0] for module in imported} <= allowed


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_slow_to_import_is_imported_where_it_is_used(name):
    """Ctrl-C before main is called ends a script with a traceback."""
    top = ast.parse((EXAMPLES / name).read_text(encoding="utf-8")).body
    names = {node.module for node in top if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    assert not [each for each in names if re.match(r"(matplotlib|tqdm|scipy\.(optimize|stats))\b", each)]


@pytest.mark.parametrize("name", sorted({*SCRIPTS} - {"first_loop.py", *WRITES_NOTHING}))
def test_what_the_user_can_fix_ends_it_with_one_line(name, monkeypatch, tmp_path):
    wrong = tmp_path / "file"
    wrong.write_text("")
    arguments = [str(wrong)] if name in OF_A_RUN else ["--smoke", "--out", str(wrong), *NEEDED.get(name, [])]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert re.fullmatch(r"error: .*", ended.value.code), "printed by Python on stderr, with exit code 1"
    assert str(wrong) in ended.value.code


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*SCRIPTS} - {*OF_A_RUN, *WRITES_NOTHING, *NEEDED, *HAVE_THEIR_OWN}))
def test_smoke_leaves_files_in_runs_alone(name, tmp_path):
    smoke(name, tmp_path)
