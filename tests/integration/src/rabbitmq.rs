//! A RabbitMQ of the tests' own: on loopback, in a temporary directory, gone when the tests have ended.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::patience::{PATIENCE, PAUSE};

/// Debian's package puts the programs there; those in /usr/sbin insist on the system's own broker.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// Exit status of `rabbitmqctl` when the node does not answer in time, which passes on a loaded machine.
const NO_ANSWER: [i32; 2] = [69, 75];

/// Runs the Erlang port mapper and the broker until its input ends, which it does with the test process, however that ends;
/// then removes the directory.
const KEEPER: &str = r#"
set -u
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & epmd=$!
"$PROGRAMS/rabbitmq-server" > "$HOME/stdout" 2>&1 & broker=$!
cat > /dev/null
pid=$(cat "$RABBITMQ_PID_FILE" 2> /dev/null) && kill -KILL "$pid"
kill "$broker" "$epmd"
wait
rm -rf "$HOME"
"#;

/// The broker that the tests share.
static SHARED: Mutex<Option<Arc<Broker>>> = Mutex::const_new(None);

/// A running broker; ends when this is dropped.
pub struct Broker {
    home: PathBuf,
    ports: Ports,
    keeper: Child,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    tls: u16,
    distribution: u16,
    epmd: u16,
}

impl Broker {
    /// The broker that the tests share. They keep apart by the names of their exchanges, and do not stop it.
    pub async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(broker) = &*shared {
            return broker.clone();
        }
        let broker = Arc::new(Self::start().await);
        *shared = Some(broker.clone());
        broker
    }

    /// Ends the shared broker when nobody uses it any more.
    pub fn end_shared() {
        drop(SHARED.blocking_lock().take());
    }

    /// A broker of one test, which may stop it.
    pub async fn start() -> Self {
        let home = tempfile::Builder::new().prefix("rabbitmq-test-").tempdir().expect("a directory").keep();
        assert!(
            Path::new(PROGRAMS).join("rabbitmq-server").exists(),
            "this test needs a RabbitMQ server: apt-get install rabbitmq-server"
        );
        let [amqp, tls, distribution, epmd] = free_ports();
        let ports = Ports { amqp, tls, distribution, epmd };
        certificates(&home).await;
        configure(&home, ports);
        // A session of its own: what interrupts the test must not end the keeper before it has tidied up.
        let keeper = Command::new("setsid")
            .args(["sh", "-c", KEEPER])
            .envs(environment(&home, ports))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid and sh start");
        let broker = Self { home, ports, keeper };
        broker.wait_until_up().await;
        broker
    }

    /// The transport URL of the broker.
    pub fn url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}/", self.ports.amqp)
    }

    /// The transport URL of the broker's encrypted port. Its certificate is for `localhost` and 127.0.0.1.
    pub fn tls_url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}/", self.ports.tls)
    }

    /// The port without encryption.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The encrypted port.
    pub fn tls_port(&self) -> u16 {
        self.ports.tls
    }

    /// The certificate with which the broker's own can be verified.
    pub fn ca_file(&self) -> PathBuf {
        self.home.join("cert.pem")
    }

    /// Runs `rabbitmqctl` and returns what it prints.
    pub async fn ctl(&self, args: &[&str]) -> String {
        let program = Path::new(PROGRAMS).join("rabbitmqctl");
        let mut command = tokio::process::Command::new(program);
        command.arg("--quiet").args(args).envs(environment(&self.home, self.ports));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = command.output().await.expect("rabbitmqctl runs");
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            let passes = output.status.code().is_some_and(|code| NO_ANSWER.contains(&code));
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(passes && Instant::now() < deadline, "rabbitmqctl {args:?}: {}: {complaint}", output.status);
        }
    }

    /// Stops the broker as an operator would; connections are closed and queues that are not durable are gone.
    pub async fn stop_app(&self) {
        self.ctl(&["stop_app"]).await;
    }

    /// Starts the broker again.
    pub async fn start_app(&self) {
        self.ctl(&["start_app"]).await;
        self.wait_until_up().await;
    }

    async fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        // In this order: the encrypted port is opened last.
        for port in [self.ports.amqp, self.ports.tls] {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                assert!(Instant::now() < deadline, "the broker did not start:\n{}", self.log());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("stdout")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The end of its input is what stops the keeper.
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("the keeper of the broker ends");
    }
}

/// Ports that are free, and that no other broker of this process was given: one that starts does not listen yet.
fn free_ports<const N: usize>() -> [u16; N] {
    static GIVEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(vec![]);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // All bound at the same time, so that they differ.
    let mut listeners = vec![];
    let ports = [(); N].map(|()| {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("a bound port").port();
            listeners.push(listener);
            if !given.contains(&port) {
                return port;
            }
        }
    });
    given.extend(ports);
    ports
}

async fn certificates(home: &Path) {
    let output = tokio::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(home.join("key.pem"))
        .arg("-out")
        .arg(home.join("cert.pem"))
        .output()
        .await
        .expect("this test needs openssl: apt-get install openssl");
    assert!(output.status.success(), "openssl req: {}", String::from_utf8_lossy(&output.stderr));
}

fn configure(home: &Path, ports: Ports) {
    let Ports { amqp, tls, .. } = ports;
    let path = home.display();
    let settings = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         listeners.ssl.1 = 127.0.0.1:{tls}\n\
         ssl_options.certfile = {path}/cert.pem\n\
         ssl_options.keyfile = {path}/key.pem\n\
         ssl_options.verify = verify_none\n\
         vm_memory_high_watermark.absolute = 512MiB\n\
         disk_free_limit.absolute = 1MB\n\
         log.console = true\n\
         log.console.level = warning\n\
         log.file = false\n"
    );
    fs::write(home.join("rabbitmq.conf"), settings).expect("the broker's directory can be written");
    fs::write(home.join("enabled_plugins"), "[].\n").expect("the broker's directory can be written");
}

fn environment(home: &Path, ports: Ports) -> Vec<(&'static str, String)> {
    let path = home.display();
    [
        ("HOME", path.to_string()),
        ("PROGRAMS", PROGRAMS.to_owned()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", ports.epmd.to_string()),
        ("RABBITMQ_NODENAME", format!("test-{}@localhost", ports.amqp)),
        ("RABBITMQ_DIST_PORT", ports.distribution.to_string()),
        ("RABBITMQ_CONFIG_FILE", format!("{path}/rabbitmq.conf")),
        ("RABBITMQ_CONF_ENV_FILE", format!("{path}/rabbitmq-env.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{path}/enabled_plugins")),
        ("RABBITMQ_MNESIA_BASE", format!("{path}/mnesia")),
        ("RABBITMQ_LOG_BASE", format!("{path}/log")),
        ("RABBITMQ_PID_FILE", format!("{path}/pid")),
        // Where it runs is the source tree.
        ("ERL_CRASH_DUMP", "/dev/null".to_owned()),
        // One scheduler and a node that only loopback can reach.
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +A 4 -kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
    ]
    .into()
}
