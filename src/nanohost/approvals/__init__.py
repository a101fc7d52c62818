"""Requests that a person decides: who is asked, the card they read, the decision, and what follows from it."""
