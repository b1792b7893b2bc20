"""Shipped fakes and contract suites: whoever writes a researcher or an engine needs them too."""
