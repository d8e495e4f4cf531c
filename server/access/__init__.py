"""Who may come in, from where, how often and with how much: wrappers around the whole app, and what they ask."""
