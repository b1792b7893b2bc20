"""The campaign: the loop that joins lab, ledger, runner, researchers and judge."""
