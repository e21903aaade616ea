"""The ruler: scores of models and of what they write, and the doctor that reads them."""
