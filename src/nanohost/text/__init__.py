"""Text that people read: times and counts, quotes of others' words, names of files, text that is safe on a terminal."""
