"""ASGI wrappers around the whole app: keys, rates, origins, body limits, and a log line for every request."""
