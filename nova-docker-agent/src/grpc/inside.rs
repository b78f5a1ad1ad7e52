//! What a guest finds inside, and what is seen of it from outside: from the contract's messages to the core's words, and back.

use nova_docker_proto::v1;
use tonic::Status;

use super::status::invalid;
use crate::{
    driver::Diagnostics,
    guest::{ConfigDrive, InjectedFile, Inside, Password, check_files},
    network::{Counters, Traffic},
};

const ROOT: &str = "root";

/// With the content of the guest's config drive, if it has one.
pub(super) fn inside(asked: v1::Inside) -> Result<(Inside, Option<ConfigDrive>), Status> {
    let field = "guest.inside.files";
    let files = asked.files.into_iter().map(|file| InjectedFile::new(&file.path, file.content));
    let files: Vec<InjectedFile> = files.collect::<Result<_, _>>().map_err(|problem| invalid(field, problem))?;
    check_files(&files).map_err(|problem| invalid(field, problem))?;
    let drive = asked.config_drive.map(config_drive).transpose()?;
    let inside = Inside {
        files,
        password: asked.admin_password.filter(|password| !password.is_empty()).map(Password::new),
        admin_user: or_root(asked.admin_user.unwrap_or_default()),
        has_config_drive: drive.is_some(),
    };
    Ok((inside, drive))
}

fn config_drive(asked: v1::ConfigDrive) -> Result<ConfigDrive, Status> {
    let mut drive = ConfigDrive::default();
    for file in asked.files {
        drive.add(file.path, file.content).map_err(|problem| invalid("guest.inside.config_drive", problem))?;
    }
    Ok(drive)
}

/// Whose password shall become which.
pub(super) fn account(request: v1::SetGuestPasswordRequest) -> (String, Password) {
    (or_root(request.user), Password::new(request.password))
}

fn or_root(user: String) -> String {
    if user.is_empty() { ROOT.to_owned() } else { user }
}

pub(super) fn diagnostics(found: Diagnostics) -> v1::GuestDiagnostics {
    let used = found.used;
    let duration = |seconds| prost_types::Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 };
    v1::GuestDiagnostics {
        uptime: used.uptime.map(duration),
        cpu_time_ns: used.cpu_time,
        memory_used: used.memory,
        memory_limit: used.memory_limit,
        read_bytes: used.read_bytes,
        read_requests: used.read_requests,
        write_bytes: used.write_bytes,
        write_requests: used.write_requests,
        interfaces: found.interfaces.into_iter().map(counters).collect(),
        health: super::convert::health(used.health).into(),
    }
}

fn counters(counters: Counters) -> v1::InterfaceCounters {
    v1::InterfaceCounters {
        name: counters.name,
        mac_address: counters.mac,
        received: Some(traffic(counters.received)),
        sent: Some(traffic(counters.sent)),
    }
}

fn traffic(traffic: Traffic) -> v1::Traffic {
    let Traffic { bytes, packets, errors, dropped } = traffic;
    v1::Traffic { bytes, packets, errors, dropped }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> v1::InjectedFile {
        v1::InjectedFile { path: path.to_owned(), content: b"x".to_vec() }
    }

    #[test]
    fn a_guest_that_asks_for_nothing_finds_nothing() {
        assert_eq!(inside(v1::Inside::default()).unwrap(), (Inside::default(), None));
    }

    #[test]
    fn a_drive_is_seen_when_there_is_one_even_an_empty_one() {
        let asked = v1::Inside { config_drive: Some(v1::ConfigDrive::default()), ..v1::Inside::default() };
        let (inside, drive) = inside(asked).unwrap();
        assert!(inside.has_config_drive && drive.is_some());
    }

    #[test]
    fn a_path_that_leads_out_is_refused_with_its_field() {
        let files = v1::Inside { files: vec![file("/../x")], ..v1::Inside::default() };
        let drive = v1::ConfigDrive { files: vec![file("../x")] };
        let drive = v1::Inside { config_drive: Some(drive), ..v1::Inside::default() };
        for (field, asked) in [("guest.inside.files", files), ("guest.inside.config_drive", drive)] {
            let message = inside(asked).unwrap_err().message().to_owned();
            assert!(message.starts_with(field), "{message}");
        }
    }

    #[test]
    fn an_account_that_is_not_named_is_root() {
        let of = |user: &str| account(v1::SetGuestPasswordRequest { user: user.to_owned(), ..Default::default() }).0;
        assert_eq!((of("").as_str(), of("me").as_str()), ("root", "me"));
    }
}
