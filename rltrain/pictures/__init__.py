"""Pictures and videos of what was learnt."""
