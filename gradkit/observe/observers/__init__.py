"""One observer a module, found by name; see `gradkit.observe.observer`. Adding one edits nothing here."""
