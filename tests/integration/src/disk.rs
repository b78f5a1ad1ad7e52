//! A file system in a file, for a Docker that is to have one of its own.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use crate::process::{require, run};

/// A mounted file system; it goes when it is dropped.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// A btrfs at `directory`, in a file that has no more of the host's disk than is written. Seen in this thread's mount namespace
    /// alone.
    pub async fn btrfs(file: &Path, directory: PathBuf, gib: u64) -> Self {
        require("mkfs.btrfs", "btrfs-progs");
        File::create(file).and_then(|file| file.set_len(gib << 30)).expect("a file");
        std::fs::create_dir(&directory).expect("a directory");
        let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        run("mkfs.btrfs", &["-q", &path(file)]).await;
        run("mount", &["-o", "loop", &path(file), &path(&directory)]).await;
        Self { directory }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a Docker that has ended mounted there may go a little after it.
        umount2(&self.directory, MntFlags::MNT_DETACH).expect("it is mounted");
    }
}
