"""The one way from a container to the model: a socket a session, where the host adds the key and counts the cost."""
