"""Model and batches to numbers; nothing here prints."""
