//! What a host holds, and how it is emptied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bollard::errors::Error;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptions, PruneImagesOptionsBuilder,
    RemoveContainerOptionsBuilder,
};

use crate::docker::{Dockerd, IMAGE};
use crate::ovs::{BRIDGE, OpenVSwitch};
use crate::process::run;

const NAMESPACES: &str = "/run/netns";

/// Everything that tests make, each as a line. The test image is not counted.
pub async fn inventory(docker: &Dockerd, ovs: &OpenVSwitch) -> BTreeSet<String> {
    let client = docker.client();
    let all = ListContainersOptionsBuilder::default().all(true).build();
    let containers = client.list_containers(Some(all)).await.expect("containers").into_iter();
    let containers = containers.map(|container| format!("container {:?}", container.names));
    let images = client.list_images(Some(ListImagesOptionsBuilder::default().all(true).build())).await;
    let images = images.expect("images").into_iter().filter(|image| image.repo_tags != [IMAGE]);
    let images = images.map(|image| format!("image {:?} {:?}", image.repo_tags, image.repo_digests));
    let volumes = client.list_volumes(None::<ListVolumesOptions>).await.expect("volumes").volumes;
    let volumes = volumes.unwrap_or_default().into_iter().map(|volume| format!("volume {}", volume.name));
    let ports = ovs.vsctl(&["list-ports", BRIDGE]).await;
    let bridges = ovs.vsctl(&["list-br"]).await;
    let links = run("ip", &["-br", "link"]).await;
    let links = links.lines().filter_map(|line| line.split_whitespace().next());
    let mut all: BTreeSet<String> = containers.chain(images).chain(volumes).collect();
    all.extend(ports.lines().map(|port| format!("port {port}")));
    all.extend(bridges.lines().map(|bridge| format!("bridge {bridge}")));
    all.extend(links.map(|link| format!("network device {link}")));
    all.extend(names(Path::new(NAMESPACES)).map(|name| format!("network namespace {name}")));
    all.extend(names(&docker.links()).map(|name| format!("link {name}")));
    all.extend(given(docker).map(|path| format!("configs and secrets {}", path.display())));
    all.extend(mounts().into_iter().map(|path| format!("mount {path}")));
    all.extend(processes().into_iter().map(|name| format!("process {name}")));
    all
}

/// Removes what tests may leave.
pub async fn clean(docker: &Dockerd, ovs: &OpenVSwitch) {
    let client = docker.client();
    let all = ListContainersOptionsBuilder::default().all(true).build();
    for container in client.list_containers(Some(all)).await.expect("containers") {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let id = container.id.expect("an id");
        match client.remove_container(&id, Some(options)).await {
            // Gone, or about to go.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
            Err(error) => panic!("container {id} stays: {error}"),
        }
    }
    let images = client.list_images(Some(ListImagesOptionsBuilder::default().all(true).build())).await;
    if images.expect("images").iter().any(|image| image.repo_tags != [IMAGE]) {
        let filters = [("dangling", vec!["false"])].into();
        let options = PruneImagesOptionsBuilder::default().filters(&filters).build();
        client.prune_images(Some(options)).await.expect("images that can be removed");
    }
    for port in ovs.vsctl(&["list-ports", BRIDGE]).await.lines() {
        ovs.vsctl(&["--if-exists", "del-port", port]).await;
    }
    for name in names(Path::new(NAMESPACES)).filter(|name| name.starts_with("nova-")) {
        run("ip", &["netns", "del", &name]).await;
    }
    for name in names(&docker.links()) {
        std::fs::remove_file(docker.links().join(name)).expect("a link that can be removed");
    }
    for path in given(docker) {
        std::fs::remove_dir_all(path).expect("files that can be removed");
    }
    docker.empty_directory();
}

/// Directories of configs and secrets, each of a container.
fn given(docker: &Dockerd) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(docker.given()).into_iter().flatten().map(|entry| entry.expect("an entry").path())
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
}

/// Where something is mounted.
fn mounts() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

/// Names of the processes that live in this thread's mount namespace.
fn processes() -> Vec<String> {
    let ours = std::fs::read_link("/proc/thread-self/ns/mnt").expect("a namespace");
    let numbers = names(Path::new("/proc")).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    // One that ends meanwhile is not there.
    let here = numbers.filter(|number| std::fs::read_link(format!("/proc/{number}/ns/mnt")).is_ok_and(|it| it == ours));
    here.filter_map(|number| std::fs::read_to_string(format!("/proc/{number}/comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}
