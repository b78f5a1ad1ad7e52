//! A connection that dies without being closed.

use std::time::Duration;

use integration_tests::proxy::Proxy;
use integration_tests::rabbitmq::Broker;
use integration_tests::rpc::{call, config, serve, unique};
use nova_docker_agent::messaging::Transport;
use serde_json::json;

async fn a_call_on_a_connection_that_fell_silent_is_sent_again_on_another_one() {
    let broker = Broker::shared().await;
    let proxy = Proxy::start(broker.port()).await;
    let topic = unique("compute");
    let mut config = config(&format!("rabbit://guest:guest@127.0.0.1:{}/", proxy.port()));
    config.heartbeat = Duration::from_secs(2);
    let transport = Transport::connect(config).await.unwrap();
    let _server = serve(&transport, &topic, |request| async move { Ok(request.args["n"].clone()) }).await;
    assert_eq!(call(&transport, &topic, "m", json!({"n": 1})).await.unwrap(), json!(1));
    proxy.fall_silent();
    let before = proxy.connections();
    assert_eq!(call(&transport, &topic, "m", json!({"n": 2})).await.unwrap(), json!(2));
    assert!(proxy.connections() > before, "it was not silent");
}

tests! {
    async
    a_call_on_a_connection_that_fell_silent_is_sent_again_on_another_one,
}
