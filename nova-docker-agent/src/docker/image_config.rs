//! What Docker tells of an image's configuration.
//!
//! The client library's type of that answer takes none without `RootFS.Type`. Docker 28 gives such a one, with an empty configuration,
//! for an image of which its containerd image store lacks a layer: see [`image_whole`](super::image_whole).

use bollard::models::ImageConfig;
use serde::Deserialize;

use super::{Docker, Error};

impl Docker {
    /// The configuration of an image by its reference or its ID; none where Docker has the image and does not tell.
    pub(super) async fn image_config(&self, image: &str) -> Result<Option<ImageConfig>, Error> {
        let path = format!("/images/{image}/json");
        let answer: Inspected = self.read_json(&path, "inspect", &format!("image {image}")).await?;
        Ok(answer.told())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "RootFS")]
    root: Option<RootFs>,
    config: Option<ImageConfig>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "Type")]
    kind: Option<String>,
}

impl Inspected {
    fn told(self) -> Option<ImageConfig> {
        // Every image's configuration names it.
        let kind = self.root.and_then(|root| root.kind).unwrap_or_default();
        self.config.filter(|_| !kind.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Docker 28.5.2, in its containerd image store, that has the image's layers unpacked from another one, compressed otherwise.
    const UNTOLD: &str = r#"{"Id":"sha256:6fd93ef67d1941840e05b2c0cf146922b9d529fdd11800e20efa7627d9b959fb",
        "RepoTags":["127.0.0.1:5999/glance/img@sha256:6fd93ef67d1941840e05b2c0cf146922b9d529fdd11800e20efa7627d9b959fb"],
        "RepoDigests":["127.0.0.1:5999/glance/img@sha256:6fd93ef67d1941840e05b2c0cf146922b9d529fdd11800e20efa7627d9b959fb"],
        "Parent":"","Comment":"","DockerVersion":"","Author":"","Architecture":"","Os":"","Size":2057847,
        "GraphDriver":{"Data":null,"Name":"overlayfs"},"RootFS":{},"Metadata":{"LastTagTime":"2026-11-30T21:28:04.952708401Z"},
        "Descriptor":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":740,
            "digest":"sha256:6fd93ef67d1941840e05b2c0cf146922b9d529fdd11800e20efa7627d9b959fb"},
        "Config":{"Cmd":null,"Entrypoint":null,"Env":null,"Labels":null,"OnBuild":null,"User":"","Volumes":null,"WorkingDir":""}}"#;
    /// The same image of Docker 26.1.5.
    const TOLD: &str = r#"{"Id":"sha256:6fd93ef67d1941840e05b2c0cf146922b9d529fdd11800e20efa7627d9b959fb","Config":{"Hostname":"",
        "Domainname":"","User":"","AttachStdin":false,"Env":["A=b"],"Cmd":["/bin/sh"],"Image":"","Volumes":null,
        "WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{"l":"gz"}},"Architecture":"amd64","Os":"linux",
        "RootFS":{"Type":"layers","Layers":["sha256:df8934ad55c6a8e08aedf5a5ce6ccfc980872e075db9cbea9dc5d3b2972f009f"]}}"#;

    fn told(answer: &str) -> Option<ImageConfig> {
        serde_json::from_str::<Inspected>(answer).unwrap().told()
    }

    #[test]
    fn an_empty_configuration_of_an_image_that_docker_knows_in_part_is_not_taken_for_the_images() {
        assert_eq!(told(UNTOLD), None);
        let config = told(TOLD).unwrap();
        assert_eq!((config.env.unwrap(), config.labels.unwrap()["l"].as_str()), (vec!["A=b".to_owned()], "gz"));
    }
}
