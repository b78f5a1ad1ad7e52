use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_left() {
    let (mut client, server) = tokio::io::duplex(8);
    let mut server = Impatient::new(server, Duration::from_secs(30));
    let writes = tokio::spawn(async move { server.write_all(&[0; 64]).await });
    let mut some = [0; 16];
    tokio::time::sleep(Duration::from_secs(20)).await;
    client.read_exact(&mut some).await.unwrap();
    let error = writes.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
