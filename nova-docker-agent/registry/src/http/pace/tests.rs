use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PACE: Pace = Pace { patience: Duration::from_secs(30), rate: 4 };

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_left() {
    let (mut client, server) = tokio::io::duplex(8);
    let mut server = Paced::new(server, PACE);
    let writes = tokio::spawn(async move { server.write_all(&[0; 64]).await });
    let mut some = [0; 16];
    tokio::time::sleep(Duration::from_secs(20)).await;
    client.read_exact(&mut some).await.unwrap();
    let error = writes.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

/// Whether a client is served to its end that takes `each` bytes every ten seconds.
async fn is_served(each: usize) -> bool {
    let (mut client, server) = tokio::io::duplex(1);
    let mut server = Paced::new(server, PACE);
    let writes = tokio::spawn(async move { server.write_all(&[0; 2000]).await });
    let mut some = vec![0; each];
    while !writes.is_finished() {
        tokio::time::sleep(Duration::from_secs(10)).await;
        if client.read_exact(&mut some).await.is_err() {
            break;
        }
    }
    writes.await.unwrap().is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_little_now_and_then_is_left_and_one_that_keeps_the_least_rate_is_not() {
    assert!(!is_served(10).await);
    assert!(is_served(40).await);
}
