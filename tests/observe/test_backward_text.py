"""What a backward's text says of None: certain for one argument in every case, or silence."""

import linecache
import textwrap

import pytest

from gradkit.observe.source.answers import none_place


def place_of(body, argument=1, arguments=2):
    text = "def backward(ctx, gradient):\n" + textwrap.indent(textwrap.dedent(body).strip() + "\n", "    ")
    file = f"<text {abs(hash(text))}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    space = {}
    exec(compile(text, file, "exec"), space)
    place = none_place(space["backward"].__code__, argument, arguments)
    return place and place.line


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return gradient, None", 2),
        ("x = 1\nreturn (\n    gradient,\n    None,\n)", 5),
        ("to_w = None\nreturn gradient, to_w", 3),
        ("to_x = to_w = None\nreturn to_x, to_w", 3),
        ("to_x, to_w = gradient, None\nreturn to_x, to_w", 3),
        ("to_w: object = None\nreturn gradient, to_w", 3),
        ("to_w = None\nif ctx.needs_input_grad[0]:\n    to_w = gradient\nreturn gradient, to_w", 5),
        ("to_w = None\nif ctx.b is not None and not ctx.needs_input_grad[0]:\n    to_w = 1\nreturn 1, to_w", 5),
        ("return gradient, gradient if ctx.needs_input_grad[0] else None", 2),
        ("if not any(ctx.needs_input_grad):\n    return None, None\nreturn gradient, None", 3),
        ("if ctx.debug:\n    print(gradient)\nreturn gradient, None", 4),
        ("with ctx.off():\n    to_w = None\nreturn gradient, to_w", 4),
    ],
)
def test_names_the_line_of_none(body, line):
    assert place_of(body) == line


@pytest.mark.parametrize(
    "body",
    [
        "return gradient, gradient",
        "return gradient, ctx.pick()",
        "found = ctx.find()\nreturn found",
        "found = ctx.find()\nreturn (gradient, *found)",
        "to_x, to_w = ctx.find()\nreturn to_x, to_w",
        "to_w = ctx.find()\nreturn gradient, to_w",
        "to_w = None\nif ctx.learns:\n    to_w = gradient\nreturn gradient, to_w",
        "to_w = None\nif ctx.needs_input_grad[1] and ctx.learns:\n    to_w = gradient\nreturn gradient, to_w",
        "to_w = None\nif ctx.learns is True:\n    to_w = gradient\nreturn gradient, to_w",
        "to_w = None\nif ctx.learns:\n    if ctx.needs_input_grad[1]:\n        to_w = gradient\nreturn gradient, to_w",
        "to_w = None\nfor item in ctx.items:\n    to_w = gradient * item\nreturn gradient, to_w",
        "to_w = None\nto_w += ctx.find()\nreturn gradient, to_w",
        "to_w = None\ntry:\n    to_w = ctx.find()\nexcept KeyError:\n    pass\nreturn gradient, to_w",
        "to_w = None\nmatch ctx.kind:\n    case 1:\n        to_w = gradient\nreturn gradient, to_w",
        "if ctx.learns:\n    return gradient, gradient\nreturn gradient, None",
        "return gradient, gradient if ctx.learns else None",
        "return None",
    ],
)
def test_a_case_the_text_does_not_settle_is_no_proof(body):
    assert place_of(body) is None


def test_a_single_argument_is_returned_alone():
    assert place_of("return None", argument=0, arguments=1) == 2


def test_functions_inside_it_have_their_own_returns():
    assert place_of("def later(x):\n    return x, x\nlater(1)\nreturn gradient, None") == 5


def test_text_that_is_not_available_is_no_proof():
    space = {}
    exec("def backward(ctx, gradient):\n    return gradient, None\n", space)
    assert none_place(space["backward"].__code__, 1, 2) is None
