"""A program of its own that is one linked WhatsApp device: lines of JSON on stdin and stdout (see `protocol`).

It is a process apart because of what it drives: a library in Go that may end the process it lives in, under another
licence, that most installs do not want. The host never imports it; it imports nothing of the host.
"""
