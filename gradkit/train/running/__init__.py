"""One run in one process or several: its session, folder, checkpoints and signals."""
