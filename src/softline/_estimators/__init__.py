"""The estimators, a file each, and what they share."""
