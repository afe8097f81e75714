"""What an operator changes: sending again, pausing, pruning, and the audit of it all."""
