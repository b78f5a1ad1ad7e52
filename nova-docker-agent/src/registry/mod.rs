//! The Glance-backed OCI registry that the host's dockerd pulls from.
