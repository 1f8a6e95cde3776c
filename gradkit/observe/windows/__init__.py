"""From events to the record of one window."""
