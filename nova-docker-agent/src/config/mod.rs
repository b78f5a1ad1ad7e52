//! The operator's nova.conf, typed and validated.
