"""Readers of data sets, test sets under seal, and files that are written whole or not at all."""
