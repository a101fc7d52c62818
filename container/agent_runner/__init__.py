"""Runs inside the container: reads messages from one mailbox file and writes answers into the other.

Read in this order: loop (the main loop), claims (what is next), turn (one run of the agent), providers (the model
backends), reply and destinations (what reaches people). It imports nanohost_protocol and never nanohost.
"""
