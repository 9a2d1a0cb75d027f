"""A search for better settings: spaces, trials, storage that many processes share, and the test of what was found."""
