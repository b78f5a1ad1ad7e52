//! A RabbitMQ of the tests' own: on loopback, in a temporary directory, gone when no test uses it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpStream;

use crate::patience::{PATIENCE, PAUSE};

/// Debian's package puts the programs there; those in /usr/sbin insist on the system's own broker.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// How `rabbitmqctl` ends when the node does not answer it, or not in time: on a loaded machine, that passes.
const NO_ANSWER: [i32; 2] = [69, 75];

/// Runs the Erlang port mapper and the broker until `UNTIL` ends, then removes the directory.
const KEEPER: &str = r#"
set -u
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & epmd=$!
"$PROGRAMS/rabbitmq-server" > "$HOME/stdout" 2>&1 & broker=$!
eval "$UNTIL"
pid=$(cat "$RABBITMQ_PID_FILE" 2> /dev/null) && kill -KILL "$pid"
kill "$broker" "$epmd"
wait
rm -rf "$HOME"
"#;

/// For a broker of one test: the test process ended, however it did.
const UNTIL_INPUT_ENDS: &str = "cat > /dev/null";

/// For the shared broker: no test process held the lock at two moments. One moment is not enough, because the runner
/// starts one process after the other.
const UNTIL_UNUSED: &str = r#"
exec 9>> "$HOME.users"
until flock --nonblock --exclusive 9 && flock --unlock 9 && sleep 10 && flock --nonblock --exclusive 9; do sleep 5; done
"#;

/// A running broker.
pub struct Broker {
    home: PathBuf,
    ports: Ports,
    /// Ends with this value, for a broker of one test.
    keeper: Option<Child>,
    /// Keeps the shared broker alive.
    _use: Option<Flock<File>>,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    tls: u16,
    distribution: u16,
    epmd: u16,
}

impl Broker {
    /// The broker that the tests share, also those in other processes. They keep apart by the names of their exchanges,
    /// and do not stop it.
    pub async fn shared() -> Self {
        let name = format!("rabbitmq-test-{}", env!("CARGO_MANIFEST_DIR").replace('/', "-"));
        let home = std::env::temp_dir().join(name);
        let beside = |extension: &str| PathBuf::from(format!("{}.{extension}", home.display()));
        let starting = lock(&beside("starting"), FlockArg::LockExclusive);
        let user = lock(&beside("users"), FlockArg::LockShared);
        let ready = fs::read_to_string(home.join("ready")).ok();
        let broker = match ready.as_deref().and_then(Ports::parse) {
            Some(ports) => Self { home, ports, keeper: None, _use: Some(user) },
            None => {
                fs::remove_dir_all(&home).unwrap_or_default();
                fs::create_dir(&home).expect("a directory for the broker");
                let mut broker = Self::start_in(home, UNTIL_UNUSED).await;
                fs::write(broker.home.join("ready"), broker.ports.to_string()).expect("a file in the directory");
                broker.keeper = None;
                broker._use = Some(user);
                broker
            }
        };
        drop(starting);
        broker
    }

    /// A broker of one test, which may stop it.
    pub async fn start() -> Self {
        let home = tempfile::Builder::new().prefix("rabbitmq-test-").tempdir().expect("a directory").keep();
        Self::start_in(home, UNTIL_INPUT_ENDS).await
    }

    async fn start_in(home: PathBuf, until: &str) -> Self {
        assert!(
            Path::new(PROGRAMS).join("rabbitmq-server").exists(),
            "this test needs a RabbitMQ server: apt-get install rabbitmq-server"
        );
        // Until this broker listens, others that start would find its ports free.
        let starting = lock(&std::env::temp_dir().join("rabbitmq-test.starting"), FlockArg::LockExclusive);
        let [amqp, tls, distribution, epmd] = free_ports();
        let ports = Ports { amqp, tls, distribution, epmd };
        certificates(&home).await;
        configure(&home, ports);
        // A session of its own: the broker must outlive the test that happens to start it.
        let keeper = Command::new("setsid")
            .args(["sh", "-c", KEEPER])
            .envs(environment(&home, ports))
            .env("UNTIL", until)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid and sh start");
        let broker = Self { home, ports, keeper: Some(keeper), _use: None };
        broker.wait_until_up().await;
        drop(starting);
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
        if let Some(mut keeper) = self.keeper.take() {
            // The end of its input is what stops the keeper.
            drop(keeper.stdin.take());
            keeper.wait().expect("the keeper of the broker ends");
        }
    }
}

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let mut ports = text.split(' ').map(|port| port.parse().ok());
        let mut next = || ports.next().flatten();
        Some(Self { amqp: next()?, tls: next()?, distribution: next()?, epmd: next()? })
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.amqp, self.tls, self.distribution, self.epmd)
    }
}

fn lock(path: &Path, kind: FlockArg) -> Flock<File> {
    let file = File::options().create(true).append(true).open(path).expect("a lock file");
    Flock::lock(file, kind).map_err(|(_, error)| error).expect("a lock")
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All bound at the same time, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound port").port())
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
