"""Exported models at work: what they say of images, and what they cost on this machine. No torch for the first."""
