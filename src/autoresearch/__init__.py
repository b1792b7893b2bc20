"""AutoResearch: a program and a number, turned into a night of trustworthy research."""

__version__ = "0.1.0"
