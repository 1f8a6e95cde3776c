"""The program's text, one question a file."""
