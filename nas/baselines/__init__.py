"""Known networks, trained beside a study: by their own published recipes, or by the one that its trials get."""
