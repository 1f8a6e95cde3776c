"""What gradient checks report, one code to a file; found by `gradkit.rules.all_check_rules`."""
