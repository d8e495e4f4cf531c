"""What the server does for a request: functions of the context, shared by `routes` and `openai`."""
