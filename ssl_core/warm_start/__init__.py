"""Pretraining that no patient takes part in, before a study: it spends nothing, and may know nothing of the ledger."""
