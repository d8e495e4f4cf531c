"""What a server keeps: tables in SQLite and files in the data directory."""
