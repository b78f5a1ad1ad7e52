use std::io::Read;

use bollard::models::ImageConfig;
use futures::TryStreamExt;

use super::*;

const CONFIG: &str =
    r#"{"rootfs":{},"container":"secret","config":{"Hostname":"secret","Env":["PATH=/bin","TOKEN=secret"]}}"#;

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn name(digit: &str) -> String {
    digit.repeat(64)
}

fn blob(digit: &str) -> String {
    format!("blobs/sha256/{}", name(digit))
}

fn manifest(config: &str, layers: &[&str]) -> Vec<u8> {
    json!([{"Config": config, "RepoTags": ["of:someone"], "Layers": layers, "More": "secret"}]).to_string().into_bytes()
}

async fn scrub(input: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
    let base = Base::of(&ImageConfig { env: Some(vec!["PATH=/bin".to_owned()]), ..ImageConfig::default() });
    let pieces: Vec<_> = input.chunks(piece).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let output: Vec<Bytes> = scrubbed(stream::iter(pieces), base).try_collect().await?;
    let output = output.concat();
    assert_eq!(output.len() % BLOCK, 0);
    Ok(output)
}

fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    };
    tar::Archive::new(archive).entries().unwrap().map(read).collect()
}

fn holds_secret(archive: &[u8]) -> bool {
    archive.windows(6).any(|window| window == b"secret")
}

/// Layers and configuration of what is left, where they are named and nothing else is there.
async fn left_of(input: &[(&str, &[u8])], layers: &[(&str, &[u8])]) {
    for piece in [1, 511, 513, 700, 100_000] {
        let output = scrub(&archive(input), piece).await.unwrap();
        assert!(!holds_secret(&output));
        let found = files(&output);
        let expected = layers.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec()));
        assert_eq!(found[..layers.len()], expected.collect::<Vec<_>>());
        let [(config, content), (list, listed)] = &found[layers.len()..] else { panic!("other files are left") };
        assert_eq!(*config, format!("{}.json", hex::encode(Sha256::digest(content))));
        let content: Value = serde_json::from_slice(content).unwrap();
        let expected = json!({"rootfs": {}, "config": {"Hostname": "", "Domainname": "", "Env": ["PATH=/bin"]}});
        assert_eq!(content, expected);
        assert_eq!(list, MANIFEST);
        let paths: Vec<_> = layers.iter().map(|(path, _)| path).collect();
        let expected = json!([{"Config": config, "RepoTags": null, "Layers": paths}]);
        assert_eq!(serde_json::from_slice::<Value>(listed).unwrap(), expected);
    }
}

#[tokio::test]
async fn of_the_layout_of_docker_20_the_layers_and_a_scrubbed_configuration_are_left() {
    let (layer, json, config) =
        (format!("{}/layer.tar", name("a")), format!("{}/json", name("a")), name("c") + ".json");
    let content = [7_u8; 1500];
    let manifest = manifest(&config, &[&layer]);
    let input: [(&str, &[u8]); 5] = [
        (&json, CONFIG.as_bytes()),
        (&layer, &content),
        (&config, CONFIG.as_bytes()),
        (MANIFEST, &manifest),
        ("repositories", b"secret"),
    ];
    left_of(&input, &[(&layer, &content)]).await;
}

#[tokio::test]
async fn of_an_oci_layout_the_layers_and_a_scrubbed_configuration_are_left() {
    // The name of an archive's first file, which a user chooses.
    let odd = archive(&[("{\"rootfs\":{}}", b"content")]);
    let empty = [0; 1024];
    let attested = format!(r#"{{"of":"an attestation","rootfs":"secret","more":"{}"}}"#, "x".repeat(MAX_JSON as usize));
    let (first, second, config) = (blob("a"), blob("f"), blob("c"));
    let manifest = manifest(&config, &[&first, &second]);
    let input: [(&str, &[u8]); 10] = [
        (&first, &odd),
        (&blob("0"), br#"{"schemaVersion":2,"config":"secret"}"#),
        (&blob("1"), br#"{"id":"of a layer","container_config":"secret"}"#),
        (&blob("2"), br#"{"no JSON":secret"#),
        (&blob("3"), attested.as_bytes()),
        (&config, CONFIG.as_bytes()),
        (&second, &empty),
        ("index.json", br#"{"secret":1}"#),
        (MANIFEST, &manifest),
        ("of a later Docker", b"secret"),
    ];
    left_of(&input, &[(&first, &odd), (&second, &empty)]).await;
}

#[tokio::test]
async fn a_layer_whose_size_is_told_by_a_pax_record_passes_whole() {
    let (layer, config) = (blob("a"), blob("c"));
    // What a layer holds is no file of the archive.
    let content = archive(&[(MANIFEST, b"[]"), ("file", &[5; 700])]);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("size", content.len().to_string().as_bytes())]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path(&layer).unwrap();
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    let mut input = builder.get_ref().clone();
    input.extend_from_slice(&content);
    input.extend(archive(&[(&config, CONFIG.as_bytes()), (MANIFEST, &manifest(&config, &[&layer]))]));
    for piece in [1, 600, 100_000] {
        let found = files(&scrub(&input, piece).await.unwrap());
        assert_eq!(found[0], (layer.clone(), content.clone()));
        assert_eq!(found.len(), 3);
    }
}

#[tokio::test]
async fn an_archive_whose_files_are_not_those_of_one_image_is_no_snapshot() {
    let (layer, config) = (blob("a"), blob("c"));
    let content = [1; 600];
    let of_two = format!("[{0},{0}]", json!({"Config": config, "Layers": [layer]}));
    let cases: [(&str, &[&str], Vec<u8>); 5] = [
        ("a layer that nothing names", &[&layer, &config], manifest(&config, &[])),
        ("a layer that is not there", &[&config], manifest(&config, &[&layer])),
        ("no configuration", &[&layer], manifest(&config, &[&layer])),
        ("two images", &[&layer, &config], of_two.into_bytes()),
        ("no list", &[&layer, &config], b"{}".to_vec()),
    ];
    for (case, paths, list) in cases {
        let content_of = |path: &str| if path == config { CONFIG.as_bytes() } else { &content };
        let mut input: Vec<(&str, &[u8])> = paths.iter().map(|path| (*path, content_of(path))).collect();
        input.push((MANIFEST, &list));
        assert!(scrub(&archive(&input), 700).await.is_err(), "{case}");
    }
}

#[tokio::test]
async fn an_archive_that_breaks_off_is_no_snapshot() {
    let (layer, config) = (blob("a"), blob("c"));
    let whole =
        archive(&[(&layer, &[1; 700]), (&config, CONFIG.as_bytes()), (MANIFEST, &manifest(&config, &[&layer]))]);
    for kept in [0, 100, 512, 1024, 1536, 2560, whole.len() - 512, whole.len() - 1] {
        assert!(scrub(&whole[..kept.max(1)], 700).await.is_err(), "{kept} of {} bytes", whole.len());
    }
    assert!(scrub(&whole, 700).await.is_ok());
}
