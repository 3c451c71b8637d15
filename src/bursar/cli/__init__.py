"""Commands on the ledger: `reading` looks into it, `upkeep` changes it on purpose, `people` answers what waits."""
