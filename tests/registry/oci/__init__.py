"""What the registry tests stand on: the target, its HTTP API, content to push, and the clients that people use."""
