"""From the rows of outbound.db to the platforms: collect, validate, record in the ledger, pace, send, retry."""
