//! Where the container driver listens, for a stock nova-compute.

use std::fs::File;
use std::path::Path;

use nix::unistd::User;

use super::Door;
use super::finding::Finding;
use crate::config::{GrpcConfig, GrpcListen};

const CHECK: &str = "driver-socket";

pub(super) fn look(config: &GrpcConfig, door: Door) -> Vec<Finding> {
    if door == Door::ComputeService {
        return vec![Finding::left_out(CHECK, "only serve-driver listens there")];
    }
    vec![match &config.listen {
        GrpcListen::Unix(path) => judge_socket(path, config.socket_user.as_deref(), has_user),
        GrpcListen::Tcp(address) => {
            let files = config.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key, &tls.client_ca]);
            let broken = files.filter_map(|file| Some((file, File::open(file).err()?)));
            let broken: Vec<String> = broken.map(|(file, error)| format!("{}: {error}", file.display())).collect();
            match broken.is_empty() {
                true => Finding::ok(CHECK, format!("https://{address}, with mutual TLS")),
                false => {
                    Finding::failed(CHECK, broken.join("; "), "correct tls_certificate, tls_key and tls_client_ca")
                }
            }
        }
    }]
}

fn has_user(name: &str) -> bool {
    User::from_name(name).is_ok_and(|user| user.is_some())
}

fn judge_socket(path: &Path, user: Option<&str>, has_user: impl Fn(&str) -> bool) -> Finding {
    let place = format!("unix://{}", path.display());
    match user {
        Some(user) if !has_user(user) => Finding::failed(
            CHECK,
            format!("{place}: there is no user {user:?} on this host"),
            "set [docker_grpc] socket_user to the user that runs nova-compute",
        ),
        Some(user) => Finding::ok(CHECK, format!("{place}, for root and {user}")),
        None => Finding::ok(CHECK, format!("{place}, for root; [docker_grpc] socket_user admits nova-compute's user")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::config;
    use super::*;

    #[test]
    fn a_user_that_is_not_there_fails() {
        let judge = |user, there| judge_socket(Path::new("/run/d.sock"), user, |_| there).verdict;
        assert_eq!(judge(Some("nova"), false), Verdict::Failed);
        assert_eq!(judge(Some("nova"), true), Verdict::Ok);
        assert_eq!(judge(None, false), Verdict::Ok);
    }

    #[test]
    fn certificates_must_be_readable_and_nothing_is_asked_of_the_first_door() {
        let settings = [
            (("docker_grpc", "listen"), "https://127.0.0.1:1"),
            (("docker_grpc", "tls_certificate"), "/nonexistent/c"),
            (("docker_grpc", "tls_key"), "/etc/passwd"),
            (("docker_grpc", "tls_client_ca"), "/etc/passwd"),
        ];
        let grpc = config(&settings).grpc;
        let finding = &look(&grpc, Door::ContainerDriver)[0];
        assert!(finding.verdict == Verdict::Failed && finding.found.starts_with("/nonexistent/c: "), "{finding:?}");
        assert!(!finding.found.contains("passwd"), "{finding:?}");
        assert_eq!(look(&grpc, Door::ComputeService)[0].verdict, Verdict::LeftOut);
    }
}
