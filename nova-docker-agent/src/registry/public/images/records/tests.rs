use super::*;

fn key(name: &str) -> Key {
    (Digest::of(b"token"), Of::Owner(name.to_owned(), Hidden(false)))
}

#[test]
fn a_listing_under_way_does_for_seconds_but_not_for_what_has_come_since_it_was_begun() {
    let (now, fresh) = (Instant::now(), Duration::from_secs(5));
    let under_way = Kept { since: now - Duration::from_secs(1), listed: Arc::default() };
    for age in [Age::Seconds, Age::Then(under_way.since)] {
        assert!(under_way.is_fresh(age, now, fresh));
    }
    assert!(!under_way.is_fresh(Age::Then(now), now, fresh));
}

#[test]
fn listings_are_kept_as_far_as_they_fit_the_newest_first_and_those_under_way() {
    let all = bounded(10 * MIN_WEIGHT as u64);
    let begin = |name| {
        let kept = Kept { since: Instant::now(), listed: Arc::default() };
        all.insert(key(name), kept.clone());
        kept
    };
    let come = |name, kept: &Kept, weight| {
        let listed = Listed { images: Arc::default(), weight, until: Instant::now() };
        assert!(kept.listed.set(listed).is_ok());
        weigh(&all, &key(name), kept);
        all.run_pending_tasks();
    };
    for (name, weight) in [("old", 5), ("new", 5), ("newer", 4)] {
        come(name, &begin(name), weight * MIN_WEIGHT);
    }
    let _under_way = begin("under way");
    all.run_pending_tasks();
    assert!(!all.contains_key(&key("old")));
    assert!(["new", "newer", "under way"].iter().all(|name| all.contains_key(&key(name))));
    // One that is larger than all may be.
    come("huge", &begin("huge"), 11 * MIN_WEIGHT);
    assert!(!all.contains_key(&key("huge")));
    // One that was forgotten before it came.
    let forgotten = begin("forgotten");
    all.invalidate(&key("forgotten"));
    come("forgotten", &forgotten, 1);
    assert!(!all.contains_key(&key("forgotten")));
}
