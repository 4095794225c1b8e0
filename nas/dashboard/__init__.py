"""optuna-dashboard on a study, read-only, for one person on this machine."""
