//! A broker whose packets a firewall drops: nothing tells that it is gone.

use std::process::Command;

use integration_tests::on_host;
use integration_tests::patience::until;
use integration_tests::rabbitmq::Broker;
use integration_tests::rpc::{call, config, serve};
use nova_docker_agent::messaging::Transport;
use serde_json::{Value, json};

fn a_broker_whose_packets_are_dropped_is_missed_before_the_host_counts_as_down() {
    on_host(async |_host| {
        let broker = Broker::start().await;
        let transport = Transport::connect(config(&broker.url())).await.unwrap();
        let _server = serve(&transport, "compute", |_| async { Ok(Value::Null) }).await;
        call(&transport, "compute", "before", json!({})).await.unwrap();
        let port = broker.port().to_string();
        for direction in ["--dport", "--sport"] {
            let rule = ["-w", "-I", "OUTPUT", "-p", "tcp", direction, &port, "-j", "DROP"];
            assert!(Command::new("iptables").args(rule).status().expect("install the package iptables").success());
        }
        // Patient for two minutes: without limits of our own, the kernel and lapin take longer.
        until("the silence is noticed", async || !transport.connected()).await;
    });
}

tests! {
    a_broker_whose_packets_are_dropped_is_missed_before_the_host_counts_as_down,
}
