"""A first hour and an operator's night, played with the real programs against stand-ins on loopback.

What people see is written into docs/tutorial.md and docs/how-to/when-status-shows.md: `make transcripts`. A test plays
them again and compares.
"""
