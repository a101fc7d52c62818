"""What runs in the background for the install's health: retention, files that others can read, files nobody uses."""
