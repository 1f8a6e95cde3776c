"""What a program may still do with a kept graph, read from its source: second uses are seen, other code is not one."""

from __future__ import annotations

import linecache
import sys
import textwrap
from importlib import import_module as load  # by its own name it would make this file one that may load anything
from pathlib import Path
from typing import Any

import pytest

from gradkit.observe.program.sites import is_user_code
from gradkit.observe.source import ahead as module
from gradkit.observe.source.ahead import Stack, may_differentiate_again


@pytest.fixture(autouse=True)
def _texts_are_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "is_user_code", lambda file: file.startswith(("<test ", "<no text")) or is_user_code(file)
    )


LIBRARY: dict[str, Any] = {}
exec(compile("def drive(call):\n    call()\n", "/anywhere/site-packages/library.py", "exec"), LIBRARY)


def ahead(text: str) -> bool:
    """Run `text`, which calls `keep(loss)` where the graph is kept, and ask there."""
    text = textwrap.dedent(text)
    name = f"<test {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    answers: list[bool] = []

    class Loss:
        def backward(self, retain_graph: bool = False) -> None:
            caller = sys._getframe(1)
            answers.append(may_differentiate_again(Stack.of(caller), [(caller.f_code, caller.f_lasti)]))

    try:
        exec(compile(text, name, "exec"), {"loss": Loss(), "never": False, "grad": None, "drive": LIBRARY["drive"]})
    finally:
        del linecache.cache[name]
    return answers[0]


SECOND_USES = {
    "below": """
        loss.backward(retain_graph=True)
        if never:
            grad(loss)
        """,
    "above in the loop": """
        for step in range(1):
            if never:
                grad(loss)
            loss.backward(retain_graph=True)
        """,
    "in the caller": """
        def update():
            loss.backward(retain_graph=True)
        update()
        if never:
            loss.second.backward()
        """,
    "in a function that is called later": """
        def penalty():
            return grad(loss)
        def total():
            return penalty()
        loss.backward(retain_graph=True)
        if never:
            total()
        """,
    "in a function that is handed on": """
        def penalty():
            return grad(loss)
        loss.backward(retain_graph=True)
        callbacks = [penalty]
        """,
    "in a function that a variable holds": """
        def penalty():
            return grad(loss)
        held = penalty
        loss.backward(retain_graph=True)
        if never:
            held()
        """,
    "in a function in a table": """
        def penalty():
            return grad(loss)
        table = {"penalty": (10, penalty)}
        def observe(probes=table):
            for every, probe in probes.values():
                if never:
                    probe()
        loss.backward(retain_graph=True)
        observe()
        """,
    "in a lambda": """
        extra = lambda: grad(loss)
        loss.backward(retain_graph=True)
        if never:
            extra()
        """,
    "in a function given by keyword": """
        class Run:
            def __init__(self, extra):
                self.extra = extra
            def update(self):
                loss.backward(retain_graph=True)
                if never:
                    self.extra()
        def penalty():
            return grad(loss)
        Run(extra=penalty).update()
        """,
    "in a function given by position that gets the loss": """
        class Run:
            def __init__(self, extra):
                self.extra = extra
            def update(self):
                loss.backward(retain_graph=True)
                if never:
                    self.extra(loss)
        def penalty(value):
            return grad(value)
        Run(penalty).update()
        """,
    "in a method that is looked up": """
        class Noise:
            def after(self):
                grad(loss)
        def fire(event):
            if never:
                getattr(Noise(), event)()
        loss.backward(retain_graph=True)
        fire("af" "ter")
        """,
    "in a forward": """
        class Penalty:
            def forward(self):
                return grad(loss)
        loss.backward(retain_graph=True)
        """,
    "when something was raised": """
        try:
            loss.backward(retain_graph=True)
        except RuntimeError:
            grad(loss)
        """,
    "after the loop": """
        for step in range(1):
            loss.backward(retain_graph=True)
        if never:
            grad(loss)
        """,
}
NONE = {
    "nothing": "loss.backward(retain_graph=True)\n",
    "another function of its name": """
        def backward(x):
            x.second.backward()
        loss.backward(retain_graph=True)
        """,
    "a function nobody mentions": """
        def penalty():
            return grad(loss)
        loss.backward(retain_graph=True)
        """,
    "a function nobody mentions, beside calls of unknown ones": """
        class Meter:
            pass
        def penalty():
            return grad(loss)
        loss.backward(retain_graph=True)
        print(end="")
        if never:
            Meter().update(1.0, count=2)
        """,
    "a method that is looked up, where none differentiates": """
        class Noise:
            def after(self):
                return 1
        loss.backward(retain_graph=True)
        getattr(Noise(), "after")()
        """,
    "the other branch": """
        for step in range(1):
            if never:
                loss.second.backward()
            else:
                loss.backward(retain_graph=True)
        """,
    "before it, and not in a loop": """
        if never:
            grad(loss)
        loss.backward(retain_graph=True)
        """,
    "outside of the function whose loop it is": """
        def train():
            for step in range(1):
                loss.backward(retain_graph=True)
        train()
        if never:
            grad(loss)
        """,
    "a namesake of the method that runs": """
        class Other:
            def update(self):
                grad(loss)
        class Plain:
            def update(self):
                loss.backward(retain_graph=True)
        for step in range(1):
            print(end=str(Plain().update() or ""))
        """,
}


@pytest.mark.parametrize("text", SECOND_USES.values(), ids=SECOND_USES)
def test_sees_a_second_use(text: str) -> None:
    assert ahead(text)


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_takes_nothing_else_for_one(text: str) -> None:
    assert not ahead(text)


def test_without_its_source_anything_may_follow() -> None:
    code = compile("stack = Stack.of(sys._getframe(0))", "<no text of this>", "exec")
    names = {"Stack": Stack, "sys": sys}
    exec(code, names)
    assert may_differentiate_again(names["stack"], [])


PROGRAM = """
import sys
{imports}
from gradkit.observe.source.ahead import Stack, may_differentiate_again

def train():
    for step in range(1):
        here = sys._getframe()
        answer = may_differentiate_again(Stack.of(here), [])
        penalty()
    return answer

def penalty():
    {call}
"""


@pytest.mark.parametrize(
    ("imports", "call", "expected"),
    [
        ("", "regularize()", False),  # loaded by somebody else, under a name this program happens to use
        ("from {package}.helper import regularize", "regularize()", True),
        ("from {package} import helper", "helper.regularize()", True),
        ("import {package}.helper", "{package}.helper.regularize()", True),
        ("from .helper import regularize", "regularize()", True),
        ("from .between import anything", "regularize()", True),
        ("import importlib", "importlib.import_module(sys.argv[0]).regularize()", True),
        ("from {package}.helper import innocent", "innocent()", False),
    ],
)
def test_only_modules_the_program_imports_are_read(
    imports: str, call: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"ahead_{abs(hash((imports, call)))}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "helper.py").write_text(
        "def regularize():\n    return grad(1)\n\ndef grad(x):\n    return x\n\ndef innocent():\n    pass\n"
    )
    (folder / "between.py").write_text(f"from {package}.helper import regularize\nanything = 1\n")
    text = PROGRAM.format(imports=imports, call=call).replace("{package}", package)
    (folder / "main.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    load(f"{package}.helper")
    program = load(f"{package}.main")
    monkeypatch.setattr(program, "penalty", lambda: None)
    assert program.train() is expected


@pytest.mark.parametrize(("loop", "expected"), [("for step in range(1)", False), ("if True", True)])
def test_a_library_calls_what_it_likes_but_not_within_a_loop_of_the_programs(loop: str, expected: bool) -> None:
    text = f"""
        def train():
            {loop}:
                loss.backward(retain_graph=True)
        def validate():
            return grad(loss)
        drive(train)
        """
    assert ahead(text) is expected
