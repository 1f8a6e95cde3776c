"""What is known of an object is kept under that very object, and gone with it; nobody else keeps anything under ids."""

import ast
import gc
from pathlib import Path

import pytest
import torch

from gradkit.observe.tensors.known import Known, KnownSet, Numbers

OBSERVE = Path(__file__).resolve().parents[2] / "gradkit" / "observe"
ALLOWED = {
    "tensors/known.py": "the one mechanism",
    "tensors/buffers.py": "a gradient before and after one backward, which holds it meanwhile",
    "books/ledger.py": "the same, and parameters that the ledger itself keeps alive; asked at every step",
    "taps/short_way.py": "the optimizer of the loop that is followed; one that dies ends the short way",
    "taps/patches.py": "modules and classes of torch, each held by its entry",
    "source/clearings.py": "nodes of a syntax tree that the walk holds",
    "source/numbers.py": "nodes of a syntax tree that the walk holds",
    "source/ahead.py": "nodes of a syntax tree that the walk holds",
    "source/callees.py": "nodes of a syntax tree that the walk holds",
}
"""Files that may name `id`, each with what keeps the object alive as long as the number is used."""


def names_id(source: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "id" for node in ast.walk(ast.parse(source)))


def test_no_other_file_of_the_observer_names_an_object_by_its_id() -> None:
    found = {str(path.relative_to(OBSERVE)) for path in OBSERVE.rglob("*.py") if names_id(path.read_text("utf-8"))}
    assert found <= set(ALLOWED)


def test_a_container_of_ids_would_be_seen() -> None:
    assert names_id("seen: set[int] = set()\nseen.add(id(model))")
    assert names_id("held = set(map(id, parameters))")
    assert not names_id("node.id = key\n")


def test_entries_are_kept_under_the_object_and_not_under_its_value() -> None:
    one, other = torch.ones(2), torch.ones(2)
    known: Known[torch.Tensor, str] = Known([(one, "one")])
    known[other] = "other"
    known[one] = "one again"
    assert (known[one], known[other], len(known)) == ("one again", "other", 2)
    assert [item is wanted for item, wanted in zip(known, (one, other), strict=True)] == [True, True]
    assert known.pop(one) == "one again"
    assert one not in known
    with pytest.raises(KeyError):
        known[one]
    assert known.get(one) is None
    assert known.setdefault(one, "new") == "new"


@pytest.mark.parametrize("make", [torch.nn.Linear, torch.ones], ids=["module", "tensor"])
def test_entries_are_gone_with_the_object(make) -> None:
    known: Known[object, int] = Known()
    items: KnownSet[object] = KnownSet()
    for number in range(50):  # most of these get the id of the one before
        item = make(2, 2)
        assert item not in known
        assert item not in items
        known[item] = number
        items.add(item)
        del item
    gc.collect()
    assert (len(known), len(items)) == (0, 0)


def test_an_entry_that_is_replaced_under_a_reused_id_survives_the_first_owner() -> None:
    items: KnownSet[object] = KnownSet()
    model = torch.nn.Linear(2, 2)
    model.itself = [model]  # freed by the collector only, after its id could have been asked for
    items.add(model)
    del model
    other = torch.nn.Linear(2, 2)
    items.add(other)
    gc.collect()
    assert list(items) == [other]


def test_a_set_is_walked_while_its_members_die() -> None:
    models = [torch.nn.Linear(2, 2) for _ in range(5)]
    items = KnownSet(models)
    seen = 0
    for _ in items:
        seen += 1
        if models:
            del models[-2:]
    assert seen < 5


def test_sets_answer_for_many_at_once() -> None:
    first, second, third = (torch.zeros(1) for _ in range(3))
    items = KnownSet([first, second])
    assert items.holds_any([third, second])
    assert not items.holds_any([third])
    assert items.holds_all([second, first])
    assert not items.holds_all([first, third])
    items.discard(first)
    items.discard(third)
    assert len(items) == 1


def test_what_cannot_be_referred_to_weakly_is_kept() -> None:
    indices = [0, 1, 2]
    known = Known([(indices, 1)])
    assert known[indices] == 1
    assert [0, 1, 2] not in known


def test_no_two_objects_ever_get_one_number() -> None:
    numbers = Numbers()
    keeper = torch.nn.Linear(2, 2)
    first = numbers.of(keeper)
    given = [numbers.of(torch.nn.Linear(2, 2)) for _ in range(20)]
    assert len({first, *given}) == 21
    assert numbers.of(keeper) == first
