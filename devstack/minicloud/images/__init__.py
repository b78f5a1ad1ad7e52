"""Container images as files in the form of `docker save`, made from Debian packages without Docker."""
