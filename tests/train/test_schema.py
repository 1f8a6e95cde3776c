"""What the keys of a run are for is declared with them, once."""

from gradkit.train.schema import keys_that_are


def test_bookkeeping_may_change_when_a_run_goes_on_and_so_may_how_far_it_goes():
    bookkeeping, resumable = set(keys_that_are("bookkeeping")), set(keys_that_are("resumable"))
    kept = {"checkpoint_every", "keep_checkpoints", "flush_every", "record", "progress", "resume"}
    assert bookkeeping == {"mode", "run", "name", "logger.", "watch.", *(f"trainer.{name}" for name in kept)}
    further = {"epochs", "max_steps", "max_seconds", "early_stopping", "evaluate_every", "threads"}
    assert resumable - bookkeeping == {"inference.", *(f"trainer.{name}" for name in further)}
