"""A program that is one linked WhatsApp device: lines of JSON on stdin and stdout (see `protocol`).

It is a process of its own because of what it drives: a library in Go that may end the process it is in, under another
licence, that most installs do not want. The host never imports it; it imports nothing of the host.
"""
