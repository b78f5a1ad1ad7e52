//! What is put into a container before its first start, and seen of it from outside, in a real Docker.

use std::fs;

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{guest, interface, until_logged};
use integration_tests::on_host;
use integration_tests::patience::until;
use nova_docker_agent::docker::{Docker, DockerConfig, Error};
use nova_docker_agent::guest::{ConfigDrive, Guest, InjectedFile, Inside, Password, PublicKey};

const SHADOW: &str = "root:*:19000:0:99999:7:::\nother:!:1::::::\n";

fn file(path: &str, content: &str) -> InjectedFile {
    InjectedFile::new(path, content.as_bytes().to_vec()).unwrap()
}

fn with_files(command: &str, files: Vec<InjectedFile>) -> Guest {
    Guest { inside: Inside { files, ..Inside::default() }, ..guest(command) }
}

async fn inside(docker: &Dockerd, guest: &Guest, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{}", guest.uuid), "sh", "-c", command]).await
}

async fn launch(driver: &Docker, guest: &Guest) {
    driver.create(guest, IMAGE, &[]).await.unwrap();
    driver.start(guest.uuid).await.unwrap();
}

fn files_are_there_at_the_first_instruction_and_links_lead_nowhere_outside() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let greeting = file("/srv/deep/greeting", "good day\n");
        let guest = with_files("sh -c 'cat /srv/deep/greeting; exec sleep 1000'", vec![greeting]);
        launch(&driver, &guest).await;
        until_logged(&driver, guest.uuid, "good day").await;
        assert_eq!(inside(&docker, &guest, "stat -c '%a %u' /srv/deep/greeting /srv/deep").await, "644 0\n755 0");

        // An image with links to the host's directories, as its author would make them.
        let (outside, name) = (docker.path("outside"), format!("nova-{}", guest.uuid));
        fs::create_dir(&outside).unwrap();
        let there = outside.display();
        inside(&docker, &guest, &format!("ln -s {there} /linked && ln -s {there}/file /etc/motd")).await;
        docker.docker(&["commit", &name, "linked:test"]).await;
        let guest = with_files("sleep 1000", vec![file("/linked/file", "x"), file("/etc/motd", "hello")]);
        // Docker makes the directory that the link names inside the container, or refuses it.
        match driver.create(&guest, "linked:test", &[]).await {
            Ok(()) => {
                driver.start(guest.uuid).await.unwrap();
                assert_eq!(
                    inside(&docker, &guest, "cat /etc/motd; test -L /etc/motd || echo plain").await,
                    "helloplain"
                );
                driver.remove(guest.uuid).await.unwrap();
            }
            Err(error) => assert!(matches!(error, Error::Docker { .. } | Error::NotFound { .. }), "{error}"),
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "a file went out of the container");
    });
}

fn a_link_that_leads_nowhere_keeps_no_file_out() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let maker = guest("sleep 1000");
        launch(&driver, &maker).await;
        let links = "rm -rf /root /srv; ln -s /nowhere/home /root; ln -s circle /circle; ln -s /data /srv; \
            mkdir /kept; ln -s ../kept /by-link; echo >/plain";
        inside(&docker, &maker, links).await;
        let label = r#"LABEL org.openstack.nova.image-volumes='["/srv/below","/circle/too"]'"#;
        docker.docker(&["commit", "-c", label, &format!("nova-{}", maker.uuid), "dangling:test"]).await;

        let files = ["/circle/a", "/srv/deep/b", "/by-link/c"].map(|path| file(path, path));
        let key = PublicKey { name: "mine".to_owned(), data: "ssh-ed25519 AAAAC3 me@here".to_owned() };
        let guest = Guest { key: Some(key), ..with_files("sleep 1000", files.into()) };
        driver.create(&guest, "dangling:test", &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        let read = "cut -c 1-11 /root/.ssh/authorized_keys; cat /circle/a /srv/deep/b /kept/c; echo; \
            ls -d /srv/below /circle/too; stat -c %a /root/.ssh";
        let expected = "ssh-ed25519\n/circle/a/srv/deep/b/by-link/c\n/circle/too\n/srv/below\n700";
        assert_eq!(inside(&docker, &guest, read).await, expected);
        driver.remove(guest.uuid).await.unwrap();

        let guest = with_files("sleep 1000", vec![file("/plain/file", "x")]);
        let error = driver.create(&guest, "dangling:test", &[]).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { reason, .. } if reason.contains("plain/file")), "{error}");
        driver.remove(maker.uuid).await.unwrap();
    });
}

fn a_password_is_set_by_no_program_of_the_image_and_only_where_there_are_passwords() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = Docker::connect(DockerConfig { inject_password: true, ..docker.driver_config() }).await.unwrap();
        let password = Password::new("secret");
        let mut guest = with_files("sleep 1000", vec![file("/etc/shadow", SHADOW)]);
        guest.inside.password = Some(password.clone());
        launch(&driver, &guest).await;
        let of_launch = inside(&docker, &guest, "cat /etc/shadow").await;
        assert!(of_launch.starts_with("root:$6$") && of_launch.ends_with("\nother:!:1::::::"), "{of_launch}");
        inside(&docker, &guest, "chmod 640 /etc/shadow; chgrp 42 /etc/shadow").await;
        driver.set_password(guest.uuid, "root", &password).await.unwrap();
        assert_ne!(inside(&docker, &guest, "cat /etc/shadow").await, of_launch, "a salt came twice");
        assert_eq!(inside(&docker, &guest, "stat -c '%a %u %g' /etc/shadow").await, "640 0 42");
        for (command, user, words) in [
            ("true", "nobody", "no account \"nobody\""),
            ("mv /etc/shadow /s; ln -s /s /etc/shadow", "root", "no plain file"),
            ("rm /etc/shadow", "root", "has no /etc/shadow"),
        ] {
            inside(&docker, &guest, command).await;
            let error = driver.set_password(guest.uuid, user, &password).await.unwrap_err();
            assert!(matches!(&error, Error::Lacking { reason } if reason.contains(words)), "{error}");
        }
        // An image without passwords is launched all the same.
        let guest =
            Guest { inside: Inside { password: Some(password), ..Inside::default() }, ..self::guest("sleep 1000") };
        launch(&driver, &guest).await;
        assert_eq!(inside(&docker, &guest, "test -e /etc/shadow || echo none").await, "none");
    });
}

fn a_config_drive_is_seen_after_each_start_and_goes_with_its_container() {
    on_host(async |host| {
        let docker = host.docker().await;
        let drives = docker.path("drives");
        let config = DockerConfig { config_drive_directory: drives.clone(), ..docker.driver_config() };
        let driver = Docker::connect(config.clone()).await.unwrap();
        let guest = Guest { inside: Inside { has_config_drive: true, ..Inside::default() }, ..guest("sleep 1000") };
        let mut drive = ConfigDrive::default();
        drive.add("openstack/latest/meta_data.json", "{\"a\": 1}").unwrap();
        driver.write_config_drive(guest.uuid, drive).await.unwrap();
        launch(&driver, &guest).await;
        for directory in ["/config-2", "/var/lib/cloud/seed/config_drive"] {
            let read = format!("cat {directory}/openstack/latest/meta_data.json");
            assert_eq!(inside(&docker, &guest, &read).await, "{\"a\": 1}");
            let write = format!("touch {directory}/x 2>/dev/null || echo refused");
            assert_eq!(inside(&docker, &guest, &write).await, "refused");
        }
        docker.docker(&["restart", "-t", "0", &format!("nova-{}", guest.uuid)]).await;
        // What a crash has left goes at the next start, and what a container has stays.
        fs::create_dir(drives.join(uuid::Uuid::nil().to_string())).unwrap();
        let driver = Docker::connect(config).await.unwrap();
        assert_eq!(inside(&docker, &guest, "ls /config-2").await, "openstack");
        assert_eq!(fs::read_dir(&drives).unwrap().count(), 1);
        driver.remove(guest.uuid).await.unwrap();
        assert_eq!(fs::read_dir(&drives).unwrap().count(), 0);
    });
}

fn what_a_container_and_its_interfaces_have_used_is_counted() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let guest = guest("sh -c 'while :; do :; done'");
        let interfaces = [interface(0, 5), interface(1, 5)];
        plumber.plug(guest.uuid, &interfaces).await.unwrap();
        driver.create(&guest, IMAGE, &interfaces).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        let first = driver.used(guest.uuid).await.unwrap();
        assert_eq!(first.memory_limit, 64 << 20);
        assert!(first.memory > 0 && first.memory < first.memory_limit, "{first:?}");
        until("it has used more", async || driver.used(guest.uuid).await.unwrap().cpu_time > first.cpu_time).await;
        inside(&docker, &guest, "ping -c 1 -W 1 10.9.0.77 || true").await;
        let counted = plumber.counters(guest.uuid).await.unwrap();
        let found: Vec<_> = counted.iter().map(|counters| (counters.name.as_str(), counters.mac.as_str())).collect();
        assert_eq!(found, [("eth0", "fa:16:3e:00:00:05"), ("eth1", "fa:16:3e:00:01:05")]);
        assert!(counted[0].sent.packets > 0 && counted[0].sent.bytes > 0, "{counted:?}");
        driver.remove(guest.uuid).await.unwrap();
        plumber.unplug(guest.uuid, &[]).await.unwrap();
        assert_eq!(plumber.counters(guest.uuid).await.unwrap(), []);
    });
}

tests! {
    files_are_there_at_the_first_instruction_and_links_lead_nowhere_outside,
    a_link_that_leads_nowhere_keeps_no_file_out,
    a_password_is_set_by_no_program_of_the_image_and_only_where_there_are_passwords,
    a_config_drive_is_seen_after_each_start_and_goes_with_its_container,
    what_a_container_and_its_interfaces_have_used_is_counted,
}
