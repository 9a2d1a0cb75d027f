"""Train reinforcement-learning agents from one YAML file."""
