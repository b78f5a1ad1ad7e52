//! Typed calls to nova-conductor.
