"""The two files of a session: writes inbound.db, reads outbound.db in reader processes, and notices changes."""
