"""What the cloud tests stand on. Each module has one subject; conftest.py makes fixtures of them."""
