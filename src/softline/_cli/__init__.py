"""The command line: its parser, its commands, the benchmark and the demo."""
