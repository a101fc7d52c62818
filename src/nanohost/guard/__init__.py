"""Decides whether a request of an agent is allowed, held for an approval, or denied."""
