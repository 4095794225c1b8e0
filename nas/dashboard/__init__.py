"""optuna-dashboard on a study, with what it lacks for two objectives; read-only, elsewhere by token."""
