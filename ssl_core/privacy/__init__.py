"""One loss per unit -> one clipped, noised update, paid for in the ledger."""
