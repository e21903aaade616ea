"""What the commands do: results go to standard output, progress and remarks to standard error."""
