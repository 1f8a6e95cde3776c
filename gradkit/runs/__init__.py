"""What a run folder is: its files, its one writer, its checkpoints, and how they are found and read again."""
