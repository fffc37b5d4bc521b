"""The LinGlo family, checkpoints, and other people's modules."""
