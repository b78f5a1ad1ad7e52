//! Network namespaces, interfaces and Open vSwitch ports of instances.
