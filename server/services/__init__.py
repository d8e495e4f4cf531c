"""The operations of the server: functions of the context, shared by `routes` and `openai`."""
