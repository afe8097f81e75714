"""The command line: what it takes, what it asks, and what it shows."""
