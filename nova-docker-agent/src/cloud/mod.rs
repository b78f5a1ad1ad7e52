//! REST clients of the control plane, over one keystone session.
