"""The history of runs: what is recorded of one, how it is kept, and how it is read."""
