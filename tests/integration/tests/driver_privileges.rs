//! What a flavor loosens and lets users choose, as the container's processes see it in a real Docker.

use std::os::unix::fs::PermissionsExt;

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{flavored, interface, until_logged};
use integration_tests::on_host;
use integration_tests::process::require;
use nova_docker_agent::config::HostMount;
use nova_docker_agent::docker::{Docker, DockerConfig};
use nova_docker_agent::guest::Guest;
use nova_docker_agent::limits::StopTimeout;

async fn inside(docker: &Dockerd, guest: &Guest, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{}", guest.uuid), "sh", "-c", command]).await
}

async fn run(driver: &Docker, guest: &Guest) {
    driver.create(guest, IMAGE, &[]).await.unwrap();
    driver.start(guest.uuid).await.unwrap();
}

fn devices_and_capabilities_are_those_of_the_flavor_and_no_others() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let opens = "cd /; mknod made c 10 229; (: <made) 2>/dev/null && echo opened || echo refused; \
            for name in fuse zero2; do [ -c /dev/$name ] && echo $name; done; head -c 3 /dev/zero2 2>/dev/null | wc -c; \
            (echo >/dev/zero2) 2>/dev/null && echo written || echo kept";
        let plain = flavored([("docker:cap_add", "MKNOD")], []);
        run(&driver, &plain).await;
        assert_eq!(inside(&docker, &plain, opens).await.lines().next(), Some("refused"));
        let loose = flavored(
            [
                ("docker:cap_add", "MKNOD"),
                ("docker:devices", "/dev/zero:/dev/zero2:r"),
                ("docker:device_cgroup_rules", "c 10:229 rw"),
                ("docker:allow", "devices:/dev/fuse"),
            ],
            [("docker:devices", "/dev/fuse")],
        );
        run(&driver, &loose).await;
        let seen = inside(&docker, &loose, opens).await;
        assert_eq!(seen.lines().take(4).collect::<Vec<_>>(), ["opened", "fuse", "zero2", "3"], "{seen}");
        for guest in [plain, loose] {
            driver.remove(guest.uuid).await.unwrap();
        }
    });
}

fn the_hold_is_taken_off_as_far_as_the_flavor_says() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let hold = "grep -e Seccomp: -e NoNewPrivs /proc/1/status | cut -f 2; grep -c ' /proc/' /proc/mounts || true";
        let seen = async |specs: &[(&str, &str)]| {
            let guest = match specs {
                [one] => flavored([*one], []),
                _ => flavored([], []),
            };
            run(&driver, &guest).await;
            let seen = inside(&docker, &guest, hold).await;
            driver.remove(guest.uuid).await.unwrap();
            seen.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let held = seen(&[]).await;
        assert_eq!((held[0].as_str(), held[1].as_str()), ("1", "2"), "{held:?}");
        assert_ne!(held[2], "0", "{held:?}");
        assert_eq!(seen(&[("docker:security_opt", "seccomp=unconfined")]).await[1], "0");
        assert_eq!(seen(&[("docker:security_opt", "systempaths=unconfined")]).await[2], "0");
        assert_eq!(seen(&[("docker:no_new_privileges", "false")]).await[0], "0");
        // Not every host has all capabilities to give: only what is asked for is looked at.
        let loose = flavored([("docker:privileged", "true")], []);
        driver.create(&loose, IMAGE, &[]).await.unwrap();
        let name = format!("nova-{}", loose.uuid);
        let asked = docker.docker(&["inspect", "--format", "{{.HostConfig.Privileged}}", &name]).await;
        assert_eq!(asked, "true");
        driver.remove(loose.uuid).await.unwrap();
    });
}

fn a_directory_of_the_host_is_mounted_by_the_operators_name_and_no_other_one() {
    on_host(async |host| {
        let docker = host.docker().await;
        let directory = docker.path("models");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("model"), "weights").unwrap();
        let mount = |read_only| HostMount { path: directory.clone(), read_only };
        let host_mounts = [("models".to_owned(), mount(true)), ("scratch".to_owned(), mount(false))].into();
        let driver = Docker::connect(DockerConfig { host_mounts, ..docker.driver_config() }).await.unwrap();
        let guest = flavored(
            [("docker:host_mount:models", "/srv/models"), ("docker:allow", "host_mount:scratch")],
            [("docker:host_mount:scratch", "/scratch")],
        );
        assert_eq!(driver.lacks(&guest), None);
        run(&driver, &guest).await;
        let seen = inside(
            &docker,
            &guest,
            "cat /srv/models/model; echo; (echo x >/srv/models/model) 2>/dev/null || echo kept; echo new >/scratch/note",
        );
        assert_eq!(seen.await, "weights\nkept");
        assert_eq!(std::fs::read_to_string(directory.join("note")).unwrap(), "new\n");
        driver.remove(guest.uuid).await.unwrap();
        assert!(directory.join("model").exists());
        let lack = driver.lacks(&flavored([("docker:host_mount:etc", "/data")], [])).unwrap();
        assert_eq!(
            lack,
            "docker:host_mount:etc: this host has no such directory ([docker] host_mounts: models, scratch)"
        );
    });
}

fn the_runtime_that_the_flavor_names_runs_the_container_from_its_beginning_to_its_end() {
    on_host(async |host| {
        require("crun", "crun");
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (program, log) = (docker.path("crun"), docker.path("crun.log"));
        // crun refuses hosts that have controllers of both versions of cgroups: there it does not see the second one.
        let crun = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"";
        let log_and_run = format!("echo \"$@\" >>{}; exec unshare -m sh -c '{crun}' crun \"$@\"", log.display());
        // crun 1.8 refuses the version of the specification that Docker 26 writes.
        let version = r#"s/"ociVersion":"[^"]*"/"ociVersion":"1.0.2"/"#;
        let known = format!(
            "for word; do [ \"$before\" != --bundle ] || sed -i '{version}' \"$word/config.json\"; before=$word; done"
        );
        let script = format!("#!/bin/sh\n{known}\n{log_and_run}\n");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runtimes = [("crun".to_owned(), program)].into();
        let driver = Docker::connect(DockerConfig { runtimes, ..docker.driver_config() }).await.unwrap();
        let plumber = ovs.plumber();
        let guest = flavored(
            [("docker:allow", "runtime:crun"), ("docker:read_only", "true")],
            [
                ("docker:runtime", "crun"),
                ("docker:command", "sh -c 'trap exit TERM; echo UP; while :; do sleep 0.1; done'"),
            ],
        );
        let interfaces = [interface(0, 5)];
        plumber.plug(guest.uuid, &interfaces).await.unwrap();
        driver.create(&guest, IMAGE, &interfaces).await.unwrap();
        for _ in 0..2 {
            driver.start(guest.uuid).await.unwrap();
            until_logged(&driver, guest.uuid, "UP").await;
            let seen = inside(&docker, &guest, "ip addr; (: >/new) 2>/dev/null || echo sealed").await;
            assert!(seen.contains("10.9.0.5/24") && seen.ends_with("sealed"), "{seen}");
            driver.stop(guest.uuid, StopTimeout::of_operator(std::time::Duration::from_secs(60))).await.unwrap();
        }
        // The file system of one that is held is a rescue's, whoever made it.
        driver.set_aside(guest.uuid).await.unwrap();
        let rescue = Guest { uuid: guest.uuid, rescues: true, ..flavored([("docker:runtime", "crun")], []) };
        driver.create(&rescue, IMAGE, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        assert!(inside(&docker, &guest, "ls /rescue").await.contains("bin"));
        assert!(driver.bring_back(guest.uuid).await.unwrap());
        driver.start(guest.uuid).await.unwrap();
        driver.remove(guest.uuid).await.unwrap();
        plumber.unplug(guest.uuid, &[]).await.unwrap();
        let said = std::fs::read_to_string(log).unwrap();
        for command in [" create ", " start ", " exec ", " kill ", " delete "] {
            assert!(said.contains(command), "{command} is missing: {said}");
        }
        let left: Vec<_> = std::fs::read_dir(docker.links()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

fn a_runtime_that_the_operator_does_not_give_any_more_is_named_and_none_is_tried() {
    on_host(async |host| {
        let docker = host.docker().await;
        let runtimes = [("crun".to_owned(), "/usr/bin/crun".into())].into();
        let driver = Docker::connect(DockerConfig { runtimes, ..docker.driver_config() }).await.unwrap();
        let guest = flavored([("docker:runtime", "crun")], []);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        let poorer = docker.driver().await;
        let lack = poorer.lacks(&guest).unwrap();
        assert_eq!(lack, "docker:runtime: this host has no OCI runtime \"crun\" ([docker] runtimes: none)");
        let error = poorer.start(guest.uuid).await.unwrap_err().to_string();
        assert!(
            error.contains("docker:runtime \"crun\" is invalid: this host has no such OCI runtime any more"),
            "{error}"
        );
        poorer.remove(guest.uuid).await.unwrap();
    });
}

fn a_container_runs_a_docker_of_its_own_with_what_the_guide_says() {
    on_host(async |host| {
        let docker = host.docker().await;
        let directories = ["usr", "lib", "lib64", "sbin"];
        let host_mounts = directories
            .map(|name| (name.to_owned(), HostMount { path: format!("/{name}").into(), read_only: true }))
            .into();
        let driver = Docker::connect(DockerConfig { host_mounts, ..docker.driver_config() }).await.unwrap();
        let script = r#"set -e; export PATH=/usr/sbin:/usr/bin:/sbin:/bin DOCKER_HOST=unix:///tmp/docker.sock
            mkdir -p /tmp/image/bin; cp /bin/busybox /tmp/image/bin/sh
            awk '$2 ~ "^/sys/fs/cgroup" {print $2}' /proc/mounts | while read -r mounted; do mount -o remount,bind,rw "$mounted"; done
            dockerd --bridge=none --iptables=false --ip6tables=false --exec-root=/tmp/exec --pidfile=/tmp/pid \
                --host="$DOCKER_HOST" >/tmp/log 2>&1 &
            until docker version >/dev/null 2>&1; do kill -0 $! || { cat /tmp/log; exit 1; }; sleep 0.1; done
            tar -c -C /tmp/image . | docker import - one >/dev/null
            docker run --rm --network=none one sh -c 'echo a container in a container'
            exec sleep 1000"#;
        let command = serde_json::json!(["sh", "-c", script]).to_string();
        let guest = flavored(
            [
                ("docker:cap_add", "SYS_ADMIN, NET_ADMIN, MKNOD"),
                ("docker:security_opt", "seccomp=unconfined, systempaths=unconfined, apparmor=unconfined"),
                ("docker:volume:docker", "/var/lib/docker"),
                ("docker:host_mount:usr", "/usr:ro"),
                ("docker:host_mount:lib", "/lib:ro"),
                ("docker:host_mount:lib64", "/lib64:ro"),
                ("docker:host_mount:sbin", "/sbin:ro"),
            ],
            [("docker:command", &command)],
        );
        let guest = Guest { memory_mb: 512, ..guest };
        run(&driver, &guest).await;
        until_logged(&driver, guest.uuid, "a container in a container").await;
        let volumes = driver.remove(guest.uuid).await.unwrap();
        for name in volumes {
            docker.docker(&["volume", "rm", &name]).await;
        }
    });
}

fn the_console_log_goes_on_with_as_little_of_a_log_as_a_user_can_ask_for() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let writes = "sh -c 'i=0; while [ $i -lt 3000 ]; do echo line $i of many; i=$((i + 1)); done; echo END; exec sleep 1000'";
        for files in ["1", "2"] {
            let guest = flavored(
                [],
                [("docker:logging:max-size", "16k"), ("docker:logging:max-file", files), ("docker:command", writes)],
            );
            run(&driver, &guest).await;
            let text = until_logged(&driver, guest.uuid, "END").await;
            assert!(text.len() < 64 << 10, "{} bytes with {files} files", text.len());
            // A file alone begins anew when it is full.
            let last = driver.console(guest.uuid, Some(2)).await.unwrap();
            assert_eq!(last, "END\n", "{files} files");
            driver.remove(guest.uuid).await.unwrap();
        }
    });
}

tests! {
    devices_and_capabilities_are_those_of_the_flavor_and_no_others,
    the_hold_is_taken_off_as_far_as_the_flavor_says,
    a_directory_of_the_host_is_mounted_by_the_operators_name_and_no_other_one,
    the_runtime_that_the_flavor_names_runs_the_container_from_its_beginning_to_its_end,
    a_runtime_that_the_operator_does_not_give_any_more_is_named_and_none_is_tried,
    a_container_runs_a_docker_of_its_own_with_what_the_guide_says,
    the_console_log_goes_on_with_as_little_of_a_log_as_a_user_can_ask_for,
}
