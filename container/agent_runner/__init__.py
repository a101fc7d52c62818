"""What runs inside the container: it takes messages from one mailbox file and writes answers into the other.

Read in this order: loop (the life), claims (what is next), turn (one run of the agent), providers (what thinks),
reply and destinations (what reaches people). It imports nanohost_protocol and never nanohost.
"""
