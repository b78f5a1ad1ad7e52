//! Images without tags.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Digest;
use crate::manifest::OCI_LAYER;
use crate::public::property;
use crate::public::push::PushConfig;
use crate::public::push::testing::{Cloud, DEMO, config, content, open_on, put, upload_image};
use crate::testing::{config as image_config, oci, oci_manifest};

const WEB: &str = "demo/web";
const OLD: &str = "2020-01-01T00:00:00Z";

/// A pushed image that has had no tag since 2020, and what else its record says.
fn untagged(cloud: &Cloud, seed: u8, more: Value) -> String {
    let digest = Digest::of(&[seed]).to_string();
    let mut record = json!({
        "os_hidden": true, "created_at": OLD, "updated_at": OLD, property::REPOSITORY: "web", property::DIGEST: digest,
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cloud.image(DEMO, &format!("web@{digest}"), &oci(&[content(seed, 100)]), record);
    digest
}

#[tokio::test]
async fn a_push_deletes_what_had_no_tag_for_long_and_what_nothing_refers_to() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let mut gone = vec![untagged(&cloud, 1, json!({}))];
    let mut kept = vec![untagged(&cloud, 2, json!({"updated_at": Timestamp::now().to_string()}))];
    kept.push(untagged(&cloud, 3, json!({"image_type": "snapshot"})));
    kept.push(untagged(&cloud, 4, json!({"name": "web:v7"})));
    kept.push(untagged(&cloud, 5, json!({"tags": ["web:v8"]})));
    // One that something with a tag refers to, and what refers to that; and what refers to nothing any more.
    let subject = untagged(&cloud, 6, json!({}));
    kept.push(untagged(&cloud, 7, json!({"name": "web:signature", property::SUBJECT: subject})));
    kept.push(untagged(&cloud, 8, json!({property::SUBJECT: subject})));
    gone.push(untagged(&cloud, 9, json!({property::SUBJECT: Digest::of(b"gone").to_string()})));
    let signed = untagged(&cloud, 10, json!({}));
    kept.push(untagged(&cloud, 11, json!({"name": format!("web:{}.sig", signed.replace(':', "-"))})));
    kept.extend([subject, signed]);
    // Tagged in another repository, and untagged in one that nobody pushes to.
    kept.push(untagged(&cloud, 12, json!({"tags": ["other:v1"]})));
    gone.push(untagged(&cloud, 13, json!({"name": "other@sha256:00", property::REPOSITORY: "other"})));
    // Of a manifest that an image has within.
    untagged(&cloud, 14, json!({"name": "web:v14"}));
    let layers = [content(14, 100)];
    let within = oci_manifest(&serde_json::to_vec(&image_config(&layers)).unwrap(), &layers, OCI_LAYER);
    kept.push(untagged(&cloud, 15, json!({property::SUBJECT: Digest::of(&within).to_string()})));

    for (retention, expected) in [(None, true), (Some(Duration::from_secs(24 * 3600)), false)] {
        let push = open_on(PushConfig { untagged_retention: retention, ..config(directory.path()) }, &cloud).await;
        let manifest = upload_image(&push, WEB, 20).await;
        assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
        push.tasks.close();
        push.tasks.wait().await;
        let images = cloud.images();
        let is_there = |digest: &String| images.iter().any(|image| image[property::DIGEST] == *digest);
        assert!(kept.iter().all(is_there), "{images:?}");
        assert_eq!(gone.iter().map(is_there).collect::<Vec<_>>(), [expected; 3], "{images:?}");
    }
}
