//! The integration tests: one program, so that it is linked once and its tests share servers. Its arguments are those of every
//! Rust test. When all tests were run, they must also have seen the whole gRPC contract.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::ExitCode;

use integration_tests::programs::criu;
use integration_tests::rabbitmq::Broker;
use integration_tests::{end_hosts, record, watchdog};
use libtest_mimic::Arguments;

/// The tests of a module: functions, or, after `async`, asynchronous ones that run on several threads. One that is not named
/// is never used, as the compiler says.
macro_rules! tests {
    (async $($name:ident),+ $(,)?) => { tests!(@ $($name => crate::block_on($name())),+); };
    ($($name:ident),+ $(,)?) => { tests!(@ $($name => $name()),+); };
    (@ $($name:ident => $run:expr),+) => {
        pub fn tests() -> Vec<libtest_mimic::Trial> {
            let module = module_path!().rsplit("::").next().unwrap();
            let name = |name: &str| format!("{module}::{name}");
            vec![$(libtest_mimic::Trial::test(name(stringify!($name)), || {
                let _running = integration_tests::watchdog::Running::new(concat!(module_path!(), "::", stringify!($name)));
                $run;
                Ok(())
            })),+]
        }
    };
}

mod check;
mod checkpoint;
mod checkpoint_door;
mod driver_aside;
mod driver_configuration;
mod driver_failures;
mod driver_given;
mod driver_images;
mod driver_inside;
mod driver_jobs;
mod driver_lifecycle;
mod driver_output;
mod driver_privileges;
mod driver_pull;
mod driver_restart;
mod driver_script;
mod driver_upgrade;
mod driver_volumes;
mod explain;
mod grpc_channel;
mod grpc_console;
mod grpc_door;
mod grpc_events;
mod grpc_failures;
mod grpc_inside;
mod grpc_limits;
mod grpc_listen;
mod grpc_network;
mod grpc_replace;
mod harness;
mod links;
mod messaging_dropped;
mod messaging_faults;
mod messaging_overload;
mod messaging_python;
mod messaging_queues;
mod messaging_restart;
mod messaging_rpc;
mod messaging_silence;
mod network_neighbours;
mod network_plug;
mod registry_docker;
mod storage;

/// Tests that run at the same time: they wait for servers most of the time.
const THREADS: usize = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let with_criu = with_criu();
    let has_criu = !with_criu.is_empty();
    let tests = [
        // Those first that take long, and wait.
        messaging_restart::tests(),
        messaging_python::tests(),
        check::tests(),
        with_criu,
        driver_aside::tests(),
        driver_configuration::tests(),
        driver_failures::tests(),
        driver_given::tests(),
        driver_images::tests(),
        driver_inside::tests(),
        driver_jobs::tests(),
        driver_lifecycle::tests(),
        driver_output::tests(),
        driver_privileges::tests(),
        driver_pull::tests(),
        driver_restart::tests(),
        driver_script::tests(),
        driver_upgrade::tests(),
        driver_volumes::tests(),
        explain::tests(),
        grpc_channel::tests(),
        grpc_console::tests(),
        grpc_door::tests(),
        grpc_events::tests(),
        grpc_failures::tests(),
        grpc_inside::tests(),
        grpc_limits::tests(),
        grpc_listen::tests(),
        grpc_network::tests(),
        grpc_replace::tests(),
        harness::tests(),
        links::tests(),
        messaging_dropped::tests(),
        messaging_faults::tests(),
        messaging_overload::tests(),
        messaging_queues::tests(),
        messaging_rpc::tests(),
        messaging_silence::tests(),
        network_neighbours::tests(),
        network_plug::tests(),
        registry_docker::tests(),
        storage::tests(),
    ];
    let tests = tests.into_iter().flatten().collect::<Vec<_>>();
    let count = tests.len() as u64;
    watchdog::start();
    let conclusion = libtest_mimic::run(&arguments, tests);
    end_hosts();
    Broker::end_shared();
    if conclusion.num_passed != count {
        return conclusion.exit_code();
    }
    let complaints = record::complaints(has_criu);
    complaints.iter().for_each(|complaint| eprintln!("error: {complaint}"));
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The tests of suspend to disk. Debian 12 has no CRIU for them: where none is at hand, a line of the summary says that they were
/// not run.
fn with_criu() -> Vec<libtest_mimic::Trial> {
    let tests: Vec<_> = checkpoint::tests().into_iter().chain(checkpoint_door::tests()).collect();
    let Err(reason) = block_on(nova_docker_agent::docker::look_for_criu(&criu())) else { return tests };
    // `tests/run` shows lines that begin so.
    eprintln!("not run: {} tests of suspend to disk: {reason}", tests.len());
    vec![]
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test)
}
