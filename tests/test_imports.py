"""Imports point down, and what is optional is not loaded: read from the sources, then proven in fresh processes."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gradkit"

# From the bottom to the top; a part imports parts of lower layers only, those of its own layer included where one line
# here names several. `__init__` is the public face: it is outside of the order and names what is loaded on first use.
LAYERS = (
    ("errors",),
    ("records",),
    ("findings",),
    ("rules", "config", "store", "reading", "sources", "interruptions"),
    ("engine", "fingerprints", "suppress", "runs"),
    ("settings", "report", "explain"),
    ("observe",),
    ("check", "trajectory"),
    ("run", "integrations"),
    ("train", "compare"),
    ("experiment",),
)
# Within one layer: who may import whom.
BESIDE = {("suppress", "fingerprints")}
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}
OPTIONAL = ("pyarrow", "altair", "vl_convert", "tensorboard", "transformers", "accelerate", "jsonschema", "hypothesis")


def imported(source: str) -> set[str]:
    """Every module a source names in an import, those inside functions and under TYPE_CHECKING included."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def arrows() -> dict[tuple[str, str], list[str]]:
    """(importing part, imported part) to the files that do it."""
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")}
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in imported(path.read_text(encoding="utf-8")):
            words = name.split(".")
            if words[0] == "gradkit" and words[1:] and words[1] in parts and words[1] != part_of(path):
                found.setdefault((part_of(path), words[1]), []).append(f"{path.relative_to(ROOT)} -> {name}")
    return found


def points_down(arrow: tuple[str, str]) -> bool:
    return LEVEL[arrow[0]] > LEVEL[arrow[1]] or arrow in BESIDE


def test_every_part_has_its_place_in_the_order():
    assert {part_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"} == set(LEVEL)


def test_imports_point_down():
    upward = [files for arrow, files in arrows().items() if arrow[0] != "__init__" and not points_down(arrow)]
    assert upward == []


def test_an_import_that_points_up_would_be_seen():
    assert not points_down(("rules", "observe"))
    assert not points_down(("records", "findings"))
    assert not points_down(("train", "experiment"))
    assert points_down(("engine", "rules"))
    source = "if x:\n    def f():\n        from gradkit.observe.monitor import watch\n        import torch.nn\n"
    assert imported(source) == {"gradkit.observe.monitor.watch", "torch.nn"}
    assert len(arrows()) > 50


# Inside the observer, from the ground up: a room, or a file beside the rooms, imports itself and those before it. What
# is not named here, such as the monitor, stands on all of them.
ROOMS = (
    "tensors", "watching", "attention", "program", "source", "taps", "observer",
    "witnesses", "books", "windows", "observers", "",
)  # fmt: skip


def room_of(module: str) -> str:
    """The room of a module of `gradkit.observe`; the empty one is that of the files that stand on all rooms."""
    word = module.split(".")[2]
    return word if word in ROOMS else ""


def modules() -> dict[str, Path]:
    """Dotted names of all modules of gradkit but the packages' faces, which only hand names on."""
    paths = (path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.with_suffix("").parts): ROOT / path for path in paths}


def module_arrows() -> dict[str, set[str]]:
    """Which modules each one imports, those for type checking and inside functions included."""
    known = modules()
    found = {}
    for name, path in known.items():
        names = imported(path.read_text(encoding="utf-8"))
        found[name] = {each for item in names if (each := _module(item, known)) and each != name}
    return found


def _module(name: str, known: dict[str, Path]) -> str:
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other: what is left after taking away, again and again, who imports nobody."""
    left = {name: set(targets) for name, targets in arrows.items()}
    for _ in range(2):  # from the ground, then from the roof, so that only the circles themselves stay
        while bare := {name for name, targets in left.items() if not targets & left.keys()}:
            left = {name: targets for name, targets in left.items() if name not in bare}
        left = {name: {other for other in left if name in left[other]} for name in left}
    return [sorted(left)] if left else []


def test_no_module_imports_itself_through_others():
    assert circles(module_arrows()) == []


def test_a_circle_would_be_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": set()}) == [["b", "c"]]


def test_the_rooms_of_the_observer_import_down_only():
    upward = [
        f"{name} -> {target}"
        for name, targets in module_arrows().items()
        for target in targets
        if name.startswith("gradkit.observe.") and target.startswith("gradkit.observe.")
        if ROOMS.index(room_of(name)) < ROOMS.index(room_of(target))
    ]
    assert upward == []


# What is done in one named place of the observer only, by the call as it is written.
PLACES = {
    r"gc\.get_(objects|referrers)\(": ("program/living.py", "program/holders.py"),
    r"\b_getframe\([^)]": (),  # a literal depth breaks with the next call between
    r"\.(item|tolist|cpu|numpy)\(|torch\.equal\(|\bsynchronize\(": ("tensors/measure.py",),  # waits for a device
    r"\bast\.|linecache": ("source/", "program/sites.py"),
}


def written_elsewhere(call: str, allowed: tuple[str, ...]) -> list[str]:
    """The lines of the observer with such a call outside of where it is allowed."""
    observe = PACKAGE / "observe"
    return [
        f"{path.relative_to(observe)}:{number}: {line.strip()}"
        for path in sorted(observe.rglob("*.py"))
        if not path.relative_to(observe).as_posix().startswith(allowed or ("nowhere",))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(call, line)
    ]


@pytest.mark.parametrize("call", PLACES)
def test_each_thing_is_done_in_one_place(call):
    assert written_elsewhere(call, PLACES[call]) == []


def test_a_call_in_another_place_would_be_seen():
    assert written_elsewhere(r"gc\.get_objects\(", ("books/",)) != []
    assert re.search(next(iter(list(PLACES)[1:])), "frame = sys._getframe(2)")
    assert not re.search(list(PLACES)[1], "frame = sys._getframe()")


FRAMEWORKS = {"lightning", "hydra", "omegaconf", "transformers", "accelerate"}


def outside(part: str) -> set[str]:
    """First words of the modules outside of gradkit that a part imports anywhere."""
    paths = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else (PACKAGE / part).rglob("*.py")
    return {name.split(".")[0] for path in paths for name in imported(path.read_text(encoding="utf-8"))} - {"gradkit"}


@pytest.mark.parametrize(
    "part", ["errors", "records", "findings", "rules", "engine", "fingerprints", "suppress", "store", "reading"]
)
def test_values_and_judgements_need_the_standard_library_alone(part):
    assert outside(part) <= set(sys.stdlib_module_names) | {"__future__"}


@pytest.mark.parametrize(
    "part", [part for part in LEVEL if part not in ("integrations", "train", "experiment", "check", "config")]
)
def test_frameworks_stay_in_their_parts(part):
    assert outside(part) & FRAMEWORKS <= set()


@pytest.mark.parametrize("part", ["report", "explain", "settings"])
def test_reports_need_no_torch(part):
    assert "torch" not in outside(part)


def fresh(
    program: str, *, without: tuple[str, ...] = (), arguments: tuple[str, ...] = ()
) -> subprocess.CompletedProcess:
    """Run a program in a new process in which the packages in `without` cannot be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({without!r})); sys.argv[1:] = {list(arguments)!r}\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    return subprocess.run(
        [sys.executable, "-c", blocked + program], capture_output=True, text=True, cwd=ROOT, env=environment
    )


def loaded_by(program: str, *names: str) -> set[str]:
    done = fresh(f"{program}\nimport sys; print(*sorted({set(names)!r} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = ("torch", "lightning", "hydra", "omegaconf", "numpy", "rich", "scipy", "sklearn", "difflib")


def test_importing_gradkit_loads_nothing_heavy():
    assert loaded_by("import gradkit", *HEAVY) == set()


def test_something_heavy_would_be_seen():
    assert loaded_by("import gradkit; import gradkit.report.text", *HEAVY) >= {"rich"}


def test_watching_loads_torch_but_no_framework():
    program = "import gradkit; gradkit.watch"
    assert loaded_by(program, "torch", "lightning", "hydra", "omegaconf", "transformers", "pytest") == {"torch"}


def test_gradkit_does_not_need_its_optional_packages():
    done = fresh("import gradkit", without=(*OPTIONAL, "torch", "lightning", "hydra", "numpy"))
    assert (done.returncode, done.stderr) == (0, "")


HELP = "import runpy; runpy.run_module('gradkit.train', run_name='__main__', alter_sys=True)"


def test_the_training_program_does_not_need_them_either():
    done = fresh(HELP, without=OPTIONAL, arguments=("--help",))
    assert done.returncode == 0, done.stderr
    assert "gradkit.train" in done.stdout


@pytest.mark.parametrize("needed", ["hydra", "lightning"])
def test_a_package_that_is_needed_would_be_missed(needed):
    program = "import gradkit.train.command.compose, gradkit.train.loop.steps"
    done = fresh(program, without=(needed,))
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr.splitlines()[-1]
    assert needed in done.stderr.splitlines()[-1]


def test_an_optional_package_that_is_imported_would_be_missed():
    done = fresh("import gradkit.report.charts as charts; charts.curves([], title='', y='')", without=OPTIONAL)
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of altair halted")
