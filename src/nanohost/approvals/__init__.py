"""What needs a person's yes: asked in a direct message, decided once, carried out as it was shown."""
