//! Compiles the contract; no protoc is needed.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const FILES: [&str; 2] = ["nova_docker/v1/driver.proto", "nova_docker/v1/errors.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=nova_docker");
    let descriptors = protox::compile(FILES, ["."])?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
