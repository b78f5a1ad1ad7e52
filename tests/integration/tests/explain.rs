//! `nova-docker-agent explain`, as people type it.

use std::process::Output;

use integration_tests::programs::program;

async fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::new(program("nova-docker-agent"));
    let Output { status, stdout, stderr } = command.arg("explain").args(arguments).output().await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

async fn a_container_is_told_with_the_source_of_each_part_before_its_launch() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let user_data = file("web.yaml", "#container-config\nenvironment: {PASSWORD: s3cret}\nworking_dir: /srv\n");
    let image = file("image.json", r#"[{"Config": {"Cmd": ["nginx"], "User": "www", "Env": ["PATH=/bin"]}}]"#);
    let said = ["--user-data", &user_data, "--image-config", &image, "--metadata", "docker:user=7"];
    let said = [&said[..], &["--extra-spec", "docker:init=true", "--property", "docker_tty=true"]].concat();
    let expected = "command = [\\\"nginx\\\"]    (the image itself)\n\
        env:PASSWORD = (hidden)    (user data)\n\
        env:PATH = (hidden)    (the image itself)\n\
        init = true    (extra spec of the flavor)\n\
        tty = true    (image property)\n\
        user = 7    (server metadata)\n\
        working_dir = /srv    (user data)\n";
    assert_eq!(explain(&said).await, (Some(0), expected.to_owned(), String::new()));

    let (status, shown, mistakes) = explain(&["--metadata", "docker:tty=s3cret", "--extra-spec", "docker:usr=1"]).await;
    assert_eq!((status, shown.as_str(), mistakes.lines().count()), (Some(1), "", 2), "{mistakes}");
    assert!(
        mistakes.contains("docker:tty: it is neither true nor false") && !mistakes.contains("s3cret"),
        "{mistakes}"
    );
    let (status, _, mistakes) = explain(&["--image-config", &user_data]).await;
    assert_eq!(status, Some(1));
    assert!(mistakes.contains("cannot read the image's configuration: it is no JSON"), "{mistakes}");
}

tests!(async a_container_is_told_with_the_source_of_each_part_before_its_launch);
