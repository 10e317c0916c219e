"""Jobs: recipes resolved, runs from prompt to files, their state and reports."""
