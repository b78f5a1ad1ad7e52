//! Who may use the second door.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use integration_tests::certificates::Authority;
use integration_tests::door::{Client, Door, client, connect};
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use integration_tests::process::require;
use integration_tests::programs::program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use nova_docker_agent::grpc::{ListenError, ServeError, serve};
use nova_docker_proto::{REVISION, v1};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

async fn ask(client: &mut Client) -> Result<(), Status> {
    let asked = v1::GetServerInfoRequest { client: "test/1".to_owned(), revision: REVISION, oldest_revision: 1 };
    client.get_server_info(asked).await.map(drop)
}

/// Whether `user` is answered by the health service.
async fn serves_user(socket: &Path, user: &str) -> bool {
    require("curl", "curl");
    let socket = socket.to_str().unwrap();
    // An empty message: its header alone.
    let call = r#"head -c 5 /dev/zero | exec curl -sS --http2-prior-knowledge --unix-socket "$1" --data-binary @- \
        -H 'content-type: application/grpc' -H 'te: trailers' -o /dev/null -w '%{http_code}' \
        http://driver/grpc.health.v1.Health/Check"#;
    let output = tokio::process::Command::new("setpriv")
        .args(["--reuid", user, "--regid", "nogroup", "--clear-groups", "sh", "-c", call, "sh", socket])
        .stderr(Stdio::null())
        .output()
        .await
        .expect("install the package util-linux (setpriv)");
    output.status.success() && output.stdout == b"200"
}

fn the_socket_is_its_users_alone() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let found = std::fs::metadata(door.socket()).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid()), (0o600, 0));
        assert!(!serves_user(&door.socket(), "nobody").await);
        // Not by the file's mode alone.
        std::fs::set_permissions(door.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!serves_user(&door.socket(), "nobody").await);
        assert!(serves_user(&door.socket(), "root").await);
    });
}

fn a_user_whom_the_configuration_names_may_use_the_socket() {
    on_host(async |host| {
        let door = Door::open_with(&host, &[(("docker_grpc", "socket_user"), "nobody")]).await;
        let found = std::fs::metadata(door.socket()).unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        assert_eq!((found.mode() & 0o777, found.uid()), (0o600, nobody.uid.as_raw()));
        assert!(serves_user(&door.socket(), "nobody").await);
        assert!(serves_user(&door.socket(), "root").await);
        std::fs::set_permissions(door.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!serves_user(&door.socket(), "daemon").await);
    });
}

fn a_user_who_does_not_exist_is_refused_by_name_before_anything_listens() {
    on_host(async |host| {
        let door = Door::closed(&host).await;
        let config = door.config(&[(("docker_grpc", "socket_user"), "no-such-user")]);
        let error = serve(config, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("\"no-such-user\""), "{error}");
        assert!(!door.socket().exists());
    });
}

fn the_socket_of_an_agent_that_was_killed_is_replaced_and_that_of_a_live_one_is_not() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        drop(UnixListener::bind(door.socket()).unwrap());
        door.start(&[]).await;
        let mut client = door.client().await;
        ask(&mut client).await.unwrap();

        let error = serve(door.config(&[]), std::future::pending()).await.unwrap_err();
        assert!(matches!(error, ServeError::Listen(ListenError::InUse(_))), "{error}");
        ask(&mut door.client().await).await.expect("the socket of the live agent");
        door.close().await;
    });
}

fn a_file_that_is_no_socket_is_not_removed() {
    on_host(async |host| {
        let door = Door::closed(&host).await;
        std::fs::write(door.socket(), "precious").unwrap();
        let error = serve(door.config(&[]), std::future::pending()).await.unwrap_err();
        assert!(matches!(error, ServeError::Listen(ListenError::Bind { .. })), "{error}");
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(door.socket()).unwrap(), b"precious");
    });
}

fn over_tcp_only_clients_with_a_certificate_of_the_authority_come_in() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        let directory = door.path("");
        let (ours, theirs) = (Authority::new(&directory, "ours").await, Authority::new(&directory, "theirs").await);
        let (certificate, key) = ours.sign("agent").await;
        let authority = ours.certificate();
        // The namespace has every port free.
        door.start(&[
            (("docker_grpc", "listen"), "https://127.0.0.1:7400"),
            (("docker_grpc", "tls_certificate"), &certificate),
            (("docker_grpc", "tls_key"), &key),
            (("docker_grpc", "tls_client_ca"), &authority),
        ])
        .await;
        let read = |path: &str| std::fs::read(path).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&authority)));
        let with = |(certificate, key): (String, String)| {
            tls.clone().identity(Identity::from_pem(read(&certificate), read(&key)))
        };
        let good = with(ours.sign("client").await);
        let strange = with(theirs.sign("stranger").await);
        let served = async |tls: Option<ClientTlsConfig>| {
            let scheme = if tls.is_some() { "https" } else { "http" };
            let endpoint = Endpoint::from_shared(format!("{scheme}://127.0.0.1:7400")).unwrap();
            let endpoint = match tls {
                Some(tls) => endpoint.tls_config(tls).unwrap(),
                None => endpoint,
            };
            let channel: Channel = endpoint.connect_lazy();
            ask(&mut client(channel)).await
        };
        served(Some(good)).await.unwrap();
        served(Some(strange)).await.expect_err("a certificate of another authority");
        served(Some(tls)).await.expect_err("no certificate");
        served(None).await.expect_err("no encryption");
    });
}

fn a_certificate_that_is_none_is_told_at_the_start() {
    on_host(async |host| {
        let door = Door::closed(&host).await;
        let authority = Authority::new(&door.path(""), "ours").await;
        let (certificate, key) = authority.sign("agent").await;
        let text = door.path("text").display().to_string();
        std::fs::write(&text, "no certificate").unwrap();
        let absent = door.path("absent").display().to_string();
        let error = async |certificate: &str, key: &str, authority: &str| {
            let config = door.config(&[
                (("docker_grpc", "listen"), "https://127.0.0.1:7400"),
                (("docker_grpc", "tls_certificate"), certificate),
                (("docker_grpc", "tls_key"), key),
                (("docker_grpc", "tls_client_ca"), authority),
            ]);
            serve(config, std::future::pending()).await.unwrap_err().to_string()
        };
        let authority = authority.certificate();
        let missing = error(&certificate, &absent, &authority).await;
        assert!(missing.contains(&absent), "{missing}");
        for (certificate, key, authority) in
            [(&text, &key, &authority), (&certificate, &text, &authority), (&certificate, &key, &text)]
        {
            let unusable = error(certificate, key, authority).await;
            assert!(unusable.contains("tls_certificate") && !unusable.contains("transport error"), "{unusable}");
        }
    });
}

/// The program: the socket of one that was killed stays, and the next one removes it when it is asked to end.
fn the_program_serves_until_it_is_told_to_end() {
    on_host(async |host| {
        let door = Door::closed(&host).await;
        let program = program("nova-docker-agent");
        let file = door.config_file();
        let start = || {
            let mut command = tokio::process::Command::new(&program);
            command.arg("serve-driver").arg("--config-file").arg(&file).kill_on_drop(true).spawn().unwrap()
        };
        let client = async || {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match connect(&door.socket()).await {
                    Ok(channel) => return client(channel),
                    Err(error) => assert!(Instant::now() < deadline, "{error}"),
                }
                // The file may be one that a process which was killed has left.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut killed = start();
        ask(&mut client().await).await.unwrap();
        killed.kill().await.unwrap();
        // A program that it was starting has its socket until then.
        until("nobody listens at the socket", async || connect(&door.socket()).await.is_err()).await;
        assert!(door.socket().exists());
        let mut told = start();
        ask(&mut client().await).await.unwrap();
        kill(Pid::from_raw(told.id().unwrap() as i32), Signal::SIGTERM).unwrap();
        assert!(told.wait().await.unwrap().success());
        assert!(!door.socket().exists());
    });
}

tests! {
    the_socket_is_its_users_alone,
    a_user_whom_the_configuration_names_may_use_the_socket,
    a_user_who_does_not_exist_is_refused_by_name_before_anything_listens,
    the_socket_of_an_agent_that_was_killed_is_replaced_and_that_of_a_live_one_is_not,
    a_file_that_is_no_socket_is_not_removed,
    over_tcp_only_clients_with_a_certificate_of_the_authority_come_in,
    a_certificate_that_is_none_is_told_at_the_start,
    the_program_serves_until_it_is_told_to_end,
}
