"""The estimators, one a file, and their common base."""
