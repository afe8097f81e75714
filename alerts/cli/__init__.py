"""The command line: options, queries and output."""
