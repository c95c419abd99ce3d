"""The hospital's daemon: keeps the patients, the policy and the ledger; answers a round or declines."""
