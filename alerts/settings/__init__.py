"""What the environment decides, read in one place and checked before anything starts."""
