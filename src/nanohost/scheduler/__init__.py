"""Tasks at a time: schedules, runs, misfires, and the messages that a run puts into a mailbox."""
