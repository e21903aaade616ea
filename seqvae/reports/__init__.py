"""Reports on a trained model: its scores, its diagnosis, tables and figures."""
