"""Every configuration file of the cloud, as pure functions of (Layout, Passwords, Options)."""
