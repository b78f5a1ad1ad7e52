//! The gRPC contract of nova-docker-agent, generated from the `.proto` files beside this crate.

/// Package `nova_docker.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("nova_docker.v1");
}

/// The package's descriptors, as a serialized `google.protobuf.FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// Revision of `nova_docker.v1`: one more with every addition.
pub const REVISION: u32 = 6;
