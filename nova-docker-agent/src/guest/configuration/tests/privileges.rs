//! What loosens the hold on a container, and what of it a flavor lets users choose.

use super::service::sources;
use super::*;

fn chosen<const N: usize, const M: usize>(
    flavor: [(&str, &str); N],
    user: [(&str, &str); M],
) -> Result<Configuration, Mistakes> {
    Configuration::parse(&Sources { extra_specs: texts(flavor), metadata: texts(user), ..Sources::default() })
}

fn refusal<const N: usize, const M: usize>(flavor: [(&str, &str); N], user: [(&str, &str); M]) -> String {
    chosen(flavor, user).unwrap_err().to_string()
}

#[test]
fn a_flavor_says_all_that_loosens_the_hold() {
    let made = of_flavor([
        ("docker:devices", "/dev/fuse, /dev/kvm:r /dev/net/tun:/dev/tun:rw"),
        ("docker:device_cgroup_rules", "c  10:200  rwm, b *:* r"),
        ("docker:gpus", "device=GPU-1,2"),
        ("docker:security_opt", "seccomp:unconfined, apparmor=docker-default label=level:s0:c1"),
        ("docker:runtime", "crun"),
        ("docker:host_mount:data", "/srv/data:ro"),
    ])
    .unwrap()
    .privileges;
    let device = |host: &str, path: &str, access: &str| Device {
        host: host.to_owned(),
        path: path.to_owned(),
        access: access.to_owned(),
    };
    let expected = [
        device("/dev/fuse", "/dev/fuse", "rwm"),
        device("/dev/kvm", "/dev/kvm", "r"),
        device("/dev/net/tun", "/dev/tun", "rw"),
    ];
    assert!(made.devices.iter().eq(&expected));
    assert!(made.device_cgroup_rules.iter().eq(&["c 10:200 rwm", "b *:* r"]));
    assert_eq!(made.gpus, Some(Gpus::Ids(strings(&["GPU-1", "2"]))));
    assert!(made.security_opt.iter().eq(&["seccomp=unconfined", "apparmor=docker-default", "label=level:s0:c1"]));
    assert_eq!((made.runtime.as_deref(), made.privileged), (Some("crun"), None));
    assert_eq!(made.host_mounts["data"], Volume { path: "/srv/data".to_owned(), read_only: true });
    assert_eq!(of_flavor([("docker:gpus", "all")]).unwrap().privileges.gpus, Some(Gpus::Count(-1)));
    assert_eq!(of_flavor([("docker:privileged", "yes")]).unwrap().privileges.privileged, Some(true));
}

#[test]
fn users_choose_what_the_flavor_lets_them_choose_and_nothing_else() {
    let allow = [("docker:allow", "cap_add:NET_ADMIN, cap_add:CAP_MKNOD, devices:/dev/kvm:rw")];
    let made = chosen(allow, [("docker:cap_add", "cap_mknod"), ("docker:devices", "/dev/kvm:/dev/k:r")]).unwrap();
    assert!(made.cap_add.iter().eq(&["MKNOD"]));
    assert_eq!(made.privileges.devices.iter().next().unwrap().path, "/dev/k");
    for (key, value) in [
        ("docker:cap_add", "NET_ADMIN SYS_ADMIN"),
        ("docker:cap_add", "ALL"),
        ("docker:devices", "/dev/kvm"),
        ("docker:devices", "/dev/kvm:r,/dev/sda:r"),
    ] {
        let expected = format!(
            "{key}: this flavor lets users choose only cap_add:NET_ADMIN, cap_add:CAP_MKNOD, devices:/dev/kvm:rw"
        );
        assert_eq!(refusal(allow, [(key, value)]), expected, "{value}");
    }
    let other = refusal(allow, [("docker:privileged", "true")]);
    assert!(
        other.starts_with("docker:privileged: only a flavor can set it; this one lets users choose cap_add:"),
        "{other}"
    );
    // A value that is none at all is told as such.
    assert!(refusal(allow, [("docker:cap_add", "NOTHING")]).contains("there is no such capability (allowed: names"));
    assert!(refusal(allow, [("docker:devices", "/etc/shadow")]).contains("a device is not below /dev"));
}

#[test]
fn a_key_without_a_value_is_open_altogether_and_all_capabilities_are_each_of_them() {
    for (allow, key, value) in [
        ("cap_add", "docker:cap_add", "ALL"),
        ("cap_add:ALL", "docker:cap_add", "SYS_ADMIN, ALL"),
        ("devices", "docker:devices", "/dev/anything"),
        ("device_cgroup_rules:c 1:3 r", "docker:device_cgroup_rules", "c 1:3  r"),
        ("gpus:1", "docker:gpus", "01"),
        ("host_mount:data", "docker:host_mount:data", "/data"),
        ("no_new_privileges", "docker:no_new_privileges", "off"),
        ("privileged", "docker:privileged", "true"),
        ("runtime:crun, runtime:runsc", "docker:runtime", "runsc"),
        ("security_opt:seccomp=unconfined", "docker:security_opt", "seccomp:unconfined"),
    ] {
        assert!(chosen([("docker:allow", allow)], [(key, value)]).is_ok(), "{allow}");
        assert!(refused(key, value).contains("only a flavor can set it"), "{key}");
    }
    for (allow, key, value) in [
        ("gpus:1", "docker:gpus", "2"),
        ("host_mount:data", "docker:host_mount:other", "/data"),
        ("runtime:crun", "docker:runtime", "runsc"),
        ("no_new_privileges:true", "docker:no_new_privileges", "false"),
        ("host_mount", "docker:volumes", "7"),
        ("cap_add", "docker:allow", "devices"),
    ] {
        assert!(chosen([("docker:allow", allow)], [(key, value)]).is_err(), "{allow}");
    }
}

#[test]
fn what_is_chosen_comes_on_top_of_what_the_flavor_gives_whoever_chooses_it() {
    let flavor = texts([
        ("docker:allow", "cap_add, runtime, privileged"),
        ("docker:cap_add", "MKNOD"),
        ("docker:runtime", "runc"),
    ]);
    let image = Sources {
        properties: texts([("docker_cap_add", "NET_ADMIN"), ("docker_runtime", "crun")]),
        extra_specs: flavor.clone(),
        ..Sources::default()
    };
    let made = Configuration::parse(&image).unwrap();
    assert!(made.cap_add.iter().eq(&["MKNOD", "NET_ADMIN"]));
    // As always the flavor wins over the image, and the user over both.
    assert_eq!(made.privileges.runtime.as_deref(), Some("runc"));
    let service = Sources { extra_specs: flavor, ..sources("cap_add: [MKNOD, SYS_PTRACE]\nruntime: crun\n") };
    let made = Configuration::parse(&service).unwrap();
    assert!(made.cap_add.iter().eq(&["MKNOD", "SYS_PTRACE"]));
    assert_eq!(made.privileges.runtime.as_deref(), Some("crun"));
}

#[test]
fn a_service_writes_what_it_chooses_as_compose_does() {
    let open = "cap_add,device_cgroup_rules,devices,gpus,host_mount,no_new_privileges,privileged,runtime,security_opt";
    let of = |service: &str| {
        let extra_specs = texts([("docker:allow", open)]);
        Configuration::parse(&Sources { extra_specs, ..sources(service) }).unwrap()
    };
    let made = of(
        "devices: [/dev/fuse, '/dev/kvm:/dev/kvm:r']\ndevice_cgroup_rules: ['c 1:3 r', 'b *:* rw']\ngpus: all\n\
        host_mounts: ['data:/srv:ro']\nprivileged: true\nno_new_privileges: false\nsecurity_opt: [seccomp:unconfined]\n",
    );
    let same = chosen(
        [("docker:allow", open)],
        [
            ("docker:devices", "/dev/fuse /dev/kvm:/dev/kvm:r"),
            ("docker:device_cgroup_rules", "c 1:3 r,b *:* rw"),
            ("docker:gpus", "all"),
            ("docker:host_mount:data", "/srv:ro"),
            ("docker:privileged", "true"),
            ("docker:no_new_privileges", "false"),
            ("docker:security_opt", "seccomp=unconfined"),
        ],
    );
    assert_eq!(made, same.unwrap());
}

#[test]
fn who_has_all_capabilities_cannot_drop_some_and_no_path_is_mounted_twice() {
    let error = refusal([("docker:privileged", "true")], [("docker:cap_drop", "CHOWN")]);
    assert!(error.starts_with("docker:privileged: it gives all capabilities"), "{error}");
    let mount = [("docker:host_mount:data", "/data")];
    for (key, value) in [("docker:volume:a", "/data"), ("docker:tmpfs", "/data")] {
        assert!(refusal(mount, [(key, value)]).contains("has its path"), "{key}");
    }
}

#[test]
fn a_user_keeps_no_more_of_a_log_than_the_flavor() {
    let flavor = [("docker:logging:max-size", "1m"), ("docker:logging:max-file", "2")];
    assert!(chosen(flavor, [("docker:logging:max-size", "1m"), ("docker:logging:max-file", "1")]).is_ok());
    for (key, value) in [("docker:logging:max-size", "1025k"), ("docker:logging:max-file", "3")] {
        assert!(refusal(flavor, [(key, value)]).contains("docker:logging:*: it is more than the flavor's"), "{key}");
    }
}

#[test]
fn hostile_values_that_would_loosen_the_hold_are_refused_and_never_repeated() {
    for (key, value) in [
        ("docker:allow", "secret"),
        ("docker:allow", "cap_add:secret"),
        ("docker:allow", "allow:secret"),
        ("docker:devices", "/etc/secret"),
        ("docker:devices", "/dev/../secret"),
        ("docker:devices", "/dev/a:/secret"),
        ("docker:devices", "/dev/a:/dev/b:secret"),
        ("docker:devices", "/dev/secret\n"),
        ("docker:devices", "/dev/secret:/dev/b:r:w"),
        ("docker:devices", "/dev"),
        ("docker:device_cgroup_rules", "secret"),
        ("docker:device_cgroup_rules", "c 1:2:3 r"),
        ("docker:device_cgroup_rules", "c 99999999999:1 r"),
        ("docker:device_cgroup_rules", "c 1:1 rwmr"),
        ("docker:gpus", "secret"),
        ("docker:gpus", "-1"),
        ("docker:gpus", "device=\n"),
        ("docker:runtime", "/bin/secret"),
        ("docker:runtime", ""),
        ("docker:security_opt", "seccomp={\"secret\":1}"),
        ("docker:security_opt", "apparmor=-secret"),
        ("docker:security_opt", "no-new-privileges=false"),
        ("docker:host_mount:a", "/secret:/etc"),
        ("docker:host_mount:a/b", "/secret"),
        ("docker:logging:max-size", "secret"),
        ("docker:logging:max-file", "0"),
        ("docker:logging:secret", "1"),
    ] {
        let error = of_flavor([(key, value)]).unwrap_err().to_string();
        let said = error.split_once(": ").unwrap().1;
        assert!(!said.to_lowercase().contains("secret"), "{error}");
    }
    let many = vec!["/dev/a"; 65].join(",");
    assert!(of_flavor([("docker:devices", &many)]).unwrap_err().to_string().contains("there are more than 64"));
}
