"""Full trainings of the networks near a study's front, with fresh seeds. Importing it does not import torch."""
