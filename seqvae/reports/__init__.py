"""What is reported of a finished model: scores in words, diagnosis, tables, figures."""
