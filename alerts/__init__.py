VERSION = "2.0.0"  # as in pyproject.toml
