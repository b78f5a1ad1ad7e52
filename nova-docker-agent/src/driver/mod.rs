//! The container driver: what an instance means in Docker.
