"""The page on a search: what was tried, what it gave, what it is worth."""
