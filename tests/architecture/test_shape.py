"""Sizes stay within their budgets, and modules have the shape that the house rules ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import rules, shape
from tests.architecture.source import module_from, read_modules
from tests.architecture.verdict import expect_none

SOURCE = read_modules("src")
EVERYTHING = [module for folder in ("src", "tests", "bench", "scripts", "examples") for module in read_modules(folder)]
BROAD_EXCEPT = Path(__file__).with_name("broad_except.txt")


def allowed_broad_handlers() -> set[tuple[str, str]]:
    """File and function of each entry of the allow-list."""
    lines = [line.split(maxsplit=2) for line in BROAD_EXCEPT.read_text("utf-8").splitlines()]
    entries = [line for line in lines if line and not line[0].startswith("#")]
    assert all(len(entry) == 3 for entry in entries), "each entry is: file, function, why"
    return {(entry[0], entry[1]) for entry in entries}


def test_sizes_are_within_budget() -> None:
    """Modules, classes, functions and parameter lists are short, in tests and tools too."""
    expect_none(shape.sizes(EVERYTHING))


def test_most_functions_are_short() -> None:
    """95 of 100 functions of the package are within the smaller budget."""
    assert shape.percentile95(SOURCE) <= rules.FUNCTION_LINES_P95


def test_package_doors_hold_only_a_map() -> None:
    """`__init__` is a docstring."""
    expect_none(shape.package_doors(SOURCE))


def test_maps_name_everything() -> None:
    """Who stands at the door of a package finds each room on the map."""
    expect_none(shape.package_maps(SOURCE))


def test_every_package_has_a_door() -> None:
    """A folder of modules without `__init__` would have no map and would not be read as a package."""
    packages = {module.name for module in SOURCE if module.is_package}
    parents = {module.name.rpartition(".")[0] for module in SOURCE if module.name != rules.PACKAGE}

    expect_none(parents - packages)


def test_public_names_are_documented() -> None:
    """Modules, public classes and functions, and methods of interfaces say what they are."""
    expect_none(shape.docstrings(SOURCE))


def test_tests_say_what_they_show() -> None:
    """Each test has its sentence."""
    expect_none(shape.sentences_of_tests(EVERYTHING))


def test_there_is_no_global_statement() -> None:
    """Nothing is kept in module variables."""
    expect_none(shape.global_statements(EVERYTHING))


def test_tasks_have_one_home() -> None:
    """Background tasks are named and owned."""
    expect_none(shape.loose_tasks(SOURCE))


def test_broad_handlers_are_on_the_list() -> None:
    """Everything is caught only where the list says so."""
    expect_none([" ".join(place) for place in shape.broad_handlers(EVERYTHING) - allowed_broad_handlers()])


def test_the_list_of_broad_handlers_only_shrinks() -> None:
    """An entry that is not needed any more has to go."""
    expect_none([" ".join(place) for place in allowed_broad_handlers() - shape.broad_handlers(EVERYTHING)])


def lines(count: int, head: str = "") -> str:
    """A block of that many lines, the head included."""
    indent = "    " if head else ""
    return "\n".join([*([head] if head else []), *[f"{indent}x = 1"] * (count - bool(head))]) + "\n"


@pytest.mark.parametrize(
    ("text", "within"),
    [
        (lines(500), True),
        (lines(501), False),
        (lines(60, "def f():"), True),
        (lines(61, "async def f():"), False),
        (lines(300, "class A:"), True),
        (lines(301, "class A:"), False),
        ("@decorated\n@twice\n" + lines(60, "def f():"), True),
        ("def f(a, b, c, d, e, f): ...", True),
        ("def f(a, b, /, c, *, d, e, f, g): ...", False),
        ("def f(a, b, c, d, e, *f, **g): ...", False),
        ("class A:\n    def f(self, a, b, c, d, e, f): ...", True),
        ("class A:\n    @classmethod\n    def f(cls, a, b, c, d, e, f): ...", True),
        ("class A:\n    def f(self, a, b, c, d, e, f, g): ...", False),
        ("class A:\n    @staticmethod\n    def f(a, b, c, d, e, f, g): ...", False),
        ("def outer():\n    def f(a, b, c, d, e, f, g): ...", False),
    ],
)
def test_budgets_bite(text: str, *, within: bool) -> None:
    """A thing at its budget passes, one more does not."""
    assert (shape.sizes([module_from(text)]) == []) is within


def test_the_percentile_is_counted_over_functions() -> None:
    """With one long function in twenty the 95th percentile is short, with two it is long."""
    short, long = lines(10, "def f():"), lines(50, "def g():")

    assert shape.percentile95([module_from(short * 19 + long)]) == 10
    assert shape.percentile95([module_from(short * 18 + long * 2)]) == 50


@pytest.mark.parametrize("text", ["", "x = 1", '"""Map."""\nfrom moongate.wire import server\n'])
def test_a_door_with_code_is_found(text: str) -> None:
    """An `__init__` with anything but a docstring is a complaint."""
    door = module_from(text, "moongate.wire", "src/moongate/wire/__init__.py")

    assert len(shape.package_doors([door])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        '"""Door."""\ndef f(): ...',
        '"""Door."""\nclass A: ...',
        '"""Door."""\nclass A(typing.Protocol):\n    """A."""\n    def f(self): ...\n    def g(self): "G."',
    ],
)
def test_missing_docstrings_are_found(text: str) -> None:
    """Modules, functions, classes and interface methods need one."""
    assert len(shape.docstrings([module_from(text)])) == 1


def test_private_names_need_no_docstring() -> None:
    """What begins with an underscore, is local, or is a method of a plain class explains itself."""
    text = '"""Door."""\ndef _f():\n    def g(): ...\nclass A:\n    """A."""\n    def f(self): ...\nclass _B: ...'

    assert shape.docstrings([module_from(text)]) == []


def test_a_small_interface_is_explained_by_its_class() -> None:
    """The only method of an interface, and properties, need no docstring beside that of the class."""
    text = '"""Door."""\nclass A(Protocol):\n    """A."""\n    def f(self): ...\n    @property\n    def g(self): ...'

    assert shape.docstrings([module_from(text)]) == []


def test_a_test_without_a_sentence_is_found() -> None:
    """A test function without a docstring is a complaint, also in a class."""
    text = "def test_a(): ...\nclass TestB:\n    def test_c(self): ..."

    assert len(shape.sentences_of_tests([module_from(text)])) == 2


def test_global_is_found() -> None:
    """`global` is a complaint."""
    assert len(shape.global_statements([module_from("def f():\n    global x\n    x = 1")])) == 1


def test_loose_tasks_are_found() -> None:
    """Every spelling of making a task is a complaint, but not in its home."""
    text = "asyncio.create_task(f())\nloop.create_task(f())\nasyncio.ensure_future(f())"

    assert len(shape.loose_tasks([module_from(text)])) == 3
    assert shape.loose_tasks([module_from(text, rules.TASK_HOME)]) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f():\n    try: ...\n    except: ...", True),
        ("def f():\n    try: ...\n    except Exception: ...", True),
        ("def f():\n    try: ...\n    except (OSError, BaseException) as error: ...", True),
        ("def f():\n    try: ...\n    except* builtins.Exception: ...", True),
        ("def f():\n    with contextlib.suppress(Exception): ...", True),
        ("def f():\n    try: ...\n    except Exception as error:\n        raise OSError from error", True),
        ("def f():\n    try: ...\n    except BaseException:\n        close()\n        raise", False),
        ("def f():\n    try: ...\n    except (OSError, ValueError): ...", False),
        ("def f():\n    with suppress(OSError): ...", False),
    ],
)
def test_broad_handlers_are_found(text: str, *, found: bool) -> None:
    """What swallows everything is found with the function that it stands in; what raises again is fine."""
    handlers = shape.broad_handlers([module_from(text, file="src/x.py")])

    assert handlers == ({("src/x.py", "f")} if found else set())
