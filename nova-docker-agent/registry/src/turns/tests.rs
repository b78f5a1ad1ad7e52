use futures::FutureExt;

use super::*;

#[tokio::test]
async fn nobody_has_more_than_their_turns_or_waits_for_those_of_others() {
    let turns = Turns::new(4, 2);
    let take = |whom| turns.take(whom).now_or_never().map(Result::unwrap);
    let greedy = [take(Some("greedy")).unwrap(), take(Some("greedy")).unwrap()];
    assert!(take(Some("greedy")).is_none());
    let _modest = take(Some("modest")).unwrap();
    let _host = take(None).unwrap();
    // There are no more than four.
    assert!(take(Some("modest")).is_none() && take(None).is_none());
    drop(greedy);
    assert!(take(Some("greedy")).is_some() && take(None).is_some());
}

#[tokio::test]
async fn who_has_worked_for_long_waits_for_those_who_wait() {
    let turns = Turns::new(1, 1);
    let mut long = turns.take(Some("long")).await.unwrap();
    long.step(10 * SLICE).await.unwrap();
    let mut other = Box::pin(turns.take(Some("other")));
    assert!(futures::poll!(&mut other).is_pending());
    let mut stepped = Box::pin(long.step(1));
    assert!(futures::poll!(&mut stepped).is_pending());
    let other = other.await.unwrap();
    assert!(futures::poll!(&mut stepped).is_pending());
    drop(other);
    stepped.await.unwrap();
    // And not again so soon.
    let mut third = Box::pin(turns.take(Some("third")));
    assert!(futures::poll!(&mut third).is_pending());
    long.step(SLICE - 1).now_or_never().unwrap().unwrap();
    assert!(futures::poll!(&mut third).is_pending());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_client_leaves_the_turn_to_others() {
    let turns = Turns::new(1, 1);
    let mut slow = turns.take(Some("slow")).await.unwrap();
    let (client, taken) = tokio::sync::oneshot::channel();
    let waiting = tokio::spawn(async move { slow.wait(taken).await.unwrap() });
    let other = turns.take(Some("other")).await.unwrap();
    client.send(()).unwrap();
    drop(other);
    waiting.await.unwrap().unwrap();
}
