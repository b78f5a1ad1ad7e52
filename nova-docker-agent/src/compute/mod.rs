//! The compute service: the Nova state machine, one file for each family of operation.
