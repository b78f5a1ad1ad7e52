//! What the integration tests share: servers of their own.
