"""Researchers: whoever proposes the next change."""
