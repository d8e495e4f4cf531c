"""Storage: tables in SQLite, and files in the data directory."""
