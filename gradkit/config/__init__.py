"""What every command line with a configuration shares: where the files are, fields in words, ranges, trust."""
