"""examples/lessons: the notebooks run without answers and with them, each check accepts the solution and refuses mistakes, and
what is committed is source: no outputs, formulas that can be typeset.

The mistakes are those of the table in examples/lessons/README.md, so the table is true.
"""

import contextlib
import io
import json
import re

import pytest
from exercises import Wrong, algorithm_1
from helpers import refused, require_typesettable
from scripts import EXAMPLES, ROOT

pytestmark = pytest.mark.slow

nbformat = pytest.importorskip("nbformat")  # with nbclient and ipykernel in the extra "test"
pyplot = pytest.importorskip("matplotlib.pyplot")

LESSONS = EXAMPLES / "lessons"
NOTEBOOKS = sorted(LESSONS.glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
README = (LESSONS / "README.md").read_text(encoding="utf-8")
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)


def cells_of(name):
    """{id: source} of a notebook's cells, in their order."""
    return {cell.id: cell.source for cell in nbformat.read(LESSONS / f"{name}.ipynb", as_version=4).cells}


def exercises_of(name):
    return [cell.removeprefix("exercise-") for cell in cells_of(name) if re.fullmatch(r"exercise-[a-z]+", cell)]


def solutions_of(name):
    """{exercise: answer}, from the parts of the lesson's file of solutions."""
    text = (LESSONS / "solutions" / f"{name}.py").read_text(encoding="utf-8")
    imports, *parts = re.split(r"^# %% exercise-", text, flags=re.MULTILINE)
    return dict(part.split("\n", 1) for part in parts)


def answer_to(name, exercise):
    """A solution as the exercise's cell would hold it. What its file imports, the notebook has imported."""
    return solutions_of(name)[exercise]


EXERCISES = [(name, exercise) for name in NAMES for exercise in exercises_of(name)]


def mistakes():
    """(exercise, what the solution has, what a student writes instead, what the check says), from the README's tables."""
    for line in README.splitlines():
        columns = [column.strip() for column in line.strip("|").split(" | ")]
        if len(columns) == 4 and columns[0].startswith("`"):
            yield tuple(column.strip().strip("`") for column in columns)


MISTAKES = list(mistakes())


# ---- What is committed


def test_there_are_four_lessons():
    assert [name[0] for name in NAMES] == ["1", "2", "3", "4"]
    assert len(EXERCISES) >= 12


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_committed_as_source_alone_one_line_per_line(path):
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell["metadata"]
        assert all(line.count("\n") == 1 and line.endswith("\n") for line in cell["source"][:-1])
        assert not cell["source"][-1].endswith("\n")


def test_outputs_and_counts_of_an_executed_notebook_would_be_seen(tmp_path):
    notebook = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    for name, value in ("outputs", [{"output_type": "stream", "name": "stdout", "text": ["1"]}]), ("execution_count", 3):
        path = tmp_path / f"{name}.ipynb"
        saved, code[name] = code[name], value
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        code[name] = saved
        with pytest.raises(AssertionError):
            test_a_notebook_is_committed_as_source_alone_one_line_per_line(path)


@pytest.mark.parametrize("name", NAMES)
def test_each_exercise_is_open_has_a_text_a_check_and_one_solution(name):
    cells, solutions = cells_of(name), solutions_of(name)
    order = list(cells)
    assert sorted(solutions) == sorted(exercises_of(name))
    for exercise, solution in solutions.items():
        place = order.index(f"exercise-{exercise}")
        assert order[place + 1] == f"check-{exercise}"
        assert "### Exercise" in cells[order[place - 1]]
        assert "raise NotAnswered" in cells[f"exercise-{exercise}"]
        assert "NotAnswered" not in solution


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_has_formulas_and_each_can_be_typeset(name):
    words = "\n".join(cell.source for cell in nbformat.read(LESSONS / f"{name}.ipynb", 4).cells if cell.cell_type == "markdown")
    formulas = [display or inline for display, inline in FORMULA.findall(words)]
    assert len(formulas) >= 5
    for formula in formulas:
        require_typesettable(formula)


# ---- Answers, in this process: the cells that a check needs are those that make no run


@pytest.fixture(scope="module")
def prepared():
    """prepared(name): a lesson's names after its imports, and after its data are loaded. A new dict at each call."""
    ready = {}

    def prepared(name):
        if name not in ready:
            ready[name] = {"__name__": f"lesson_{name}"}
            for cell, source in cells_of(name).items():
                if cell in ("setup", "load"):
                    exec(source, ready[name])
            pyplot.close("all")
        return dict(ready[name])

    return prepared


def verdict(names, answer, check):
    """What the check cell prints after this answer."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(answer, names)
        exec(check, names)
    return printed.getvalue()


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_a_check_accepts_the_solution_and_says_so_where_there_is_no_answer(prepared, name, exercise):
    cells = cells_of(name)
    check = cells[f"check-{exercise}"]
    assert verdict(prepared(name), cells[f"exercise-{exercise}"], check).startswith("not answered yet")
    assert "right" in verdict(prepared(name), answer_to(name, exercise), check).splitlines()
    assert "not defined" in verdict(prepared(name), "", check)  # the exercise's cell was not run


@pytest.mark.slow
@pytest.mark.parametrize(("exercise", "right", "wrong", "says"), MISTAKES)
def test_what_students_get_wrong_is_refused_in_the_words_of_the_table(prepared, exercise, right, wrong, says):
    name = next(name for name, known in EXERCISES if known == exercise)
    solution = answer_to(name, exercise)
    assert solution.count(right) == 1
    found = verdict(prepared(name), solution.replace(right, wrong), cells_of(name)[f"check-{exercise}"])
    assert found.startswith("not right yet: ")
    assert says in found


def test_every_exercise_has_a_mistake():
    assert {exercise for exercise, *_ in MISTAKES} == {exercise for _, exercise in EXERCISES}


def test_algorithm_1_says_which_order_an_answer_has():
    def G_first(gan, x, z, new_z):
        gan.generator_step(new_z, None)
        gan.discriminator_step(x, z, None)

    def simultaneous(gan, x, z, new_z):
        samples, cache = gan.G.forward(new_z)
        gan.generator_gradient(samples, cache, None)
        gan.discriminator_step(x, z, None)
        gan.G_optimizer.step(gan.G_grad)

    def twice(gan, x, z, new_z):
        gan.discriminator_step(x, z, None)
        gan.discriminator_step(x, z, None)
        gan.generator_step(new_z, None)

    with refused("G is updated before D", error=Wrong):
        algorithm_1(G_first)
    with refused("before D's update", error=Wrong):
        algorithm_1(simultaneous)
    with refused("θ_d is wrong", error=Wrong):
        algorithm_1(twice)


# ---- The notebooks, run as Jupyter runs them


def run(name, answers, monkeypatch):
    """The cells' outputs, {id: text}, of a run with a small budget. A cell that raises ends it with an error."""
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # where it is set, pictures do not come into the notebook
    notebook = nbformat.read(LESSONS / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"^ITERATIONS = \d+", "ITERATIONS = 150", answers.get(cell.id, cell.source))
    options = {"kernel_name": "python3", "extra_arguments": ["--HistoryManager.enabled=False"]}
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(LESSONS)}}, **options).execute()
    return {cell.id: cell.get("outputs", []) for cell in notebook.cells}


def text_of(outputs):
    return "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")


@pytest.mark.slow
@pytest.mark.parametrize("answered", [False, True], ids=["unanswered", "answered"])
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_to_its_end_and_draws(name, answered, monkeypatch):
    answers = {f"exercise-{exercise}": answer_to(name, exercise) for exercise in exercises_of(name)} if answered else {}
    outputs = run(name, answers, monkeypatch)
    for exercise in exercises_of(name):
        words = text_of(outputs[f"check-{exercise}"])
        assert "right" in words.splitlines() if answered else words.startswith("not answered yet")
    pictures = [output for each in outputs.values() for output in each if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    assert sum(len(picture["data"]["image/png"]) for picture in pictures) < 500_000
