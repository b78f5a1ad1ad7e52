//! A CRIU that never comes to its end.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::docker::Dockerd;
use crate::patience::until;
use crate::programs;

/// One that is stopped as soon as it has begun to write.
pub struct Endless {
    /// Its path.
    pub criu: String,
    begun: PathBuf,
}

impl Endless {
    /// For containers whose checkpoints are below `checkpoints`.
    pub fn new(docker: &Dockerd, checkpoints: &Path) -> Self {
        let directory = docker.path("endless");
        std::fs::create_dir_all(&directory).unwrap();
        let (program, begun) = (directory.join("criu"), directory.join("begun"));
        // It is asked for its version first. Nobody hears of a dump's end that was not met before.
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = swrk ] || exec {criu} \"$@\"\nnice -n 19 {criu} \"$@\" <&0 & criu=$!\n\
             while set -- {checkpoints}/*/images/*.img; [ ! -e \"$1\" ]; do\n\
             [ -e /proc/$criu/exe ] || {{ wait $criu; exit $?; }}\ndone\n\
             kill -STOP $criu\n: >{begun}\nexec sleep 100000\n",
            criu = programs::criu(),
            checkpoints = checkpoints.display(),
            begun = begun.display(),
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        Self { criu: program.to_string_lossy().into_owned(), begun }
    }

    /// Waits until it has begun.
    pub async fn until_begun(&self) {
        until("a dump has begun", async || self.begun.exists()).await;
    }
}
