"""From the command line to a checked plan, before torch is loaded."""
