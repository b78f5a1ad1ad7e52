//! The registry from its clients' side, over HTTP, before doubles of keystone and Glance.

mod access;
mod anonymous;
mod costs;
mod discovery;
mod listening;
mod pull;
mod refusals;
