"""The page of published machines is what the rule says today."""

from __future__ import annotations

from bench.pretrain import fit_table


def test_the_page_is_what_the_rule_says() -> None:
    """docs/fit.md is made by the script, from the rule as it stands."""
    assert fit_table.PAGE.read_text(encoding="utf-8") == fit_table.page(), "run python bench/pretrain/fit_table.py"


def test_one_rule_lands_near_most_of_them() -> None:
    """Depth within two layers and batch within twice of what was found, on all machines but two."""
    far = []
    for found in fit_table.FOUND:
        size = fit_table.fit(fit_table.machine_named(found.name), fit_table.WORK)
        batch = found.batch or size.batch_tokens
        if abs(size.depth - found.depth) > 2 or not 0.5 <= size.batch_tokens / batch <= 2:
            far.append(found.machine)
    assert len(far) <= 2, far
