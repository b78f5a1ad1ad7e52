use super::*;

fn key(name: &str) -> Key {
    (Digest::of(b"token"), Of::Owner(name.to_owned(), Hidden(false)))
}

#[test]
fn a_listing_under_way_does_for_seconds_but_not_for_what_has_come_since_it_was_begun() {
    let (now, fresh) = (Instant::now(), Duration::from_secs(5));
    let under_way = Kept::new(now - Duration::from_secs(1), 3);
    for age in [Age::Seconds, Age::Then(under_way.since)] {
        assert!(under_way.is_fresh(age, now, fresh, 3));
    }
    assert!(!under_way.is_fresh(Age::Then(now), now, fresh, 3));
    assert!(!under_way.is_fresh(Age::Seconds, now, fresh, 4), "another process has changed something");
}

#[test]
fn listings_are_kept_as_far_as_they_fit_the_newest_first_and_those_under_way() {
    let all = bounded(10 * MIN_WEIGHT as u64);
    let begin = |name| {
        let kept = Kept::new(Instant::now(), 0);
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

#[test]
fn of_properties_that_users_write_no_more_is_kept_than_there_is_room_for() {
    let image = |blobs: usize| -> ImageMeta {
        let (blobs, mine) = ("b".repeat(blobs), "m".repeat(60_000));
        let record = serde_json::json!({
            "id": Uuid::new_v4(), "status": "active", "oci_digest": "d", "oci_blobs": blobs, "oci_mine": mine, "oci_subject": 5,
        });
        serde_json::from_value(record).unwrap()
    };
    let mut room = 100_000;
    let kept: Vec<ImageMeta> = [60_000, 1000, 60_000, 30_000].map(|blobs| essential(image(blobs), &mut room)).into();
    let lengths: Vec<_> = kept.iter().map(|image| property::text(image, property::BLOBS).map(str::len)).collect();
    assert_eq!((lengths, room), (vec![Some(60_000), Some(1000), None, Some(30_000)], 10_000));
    assert!(kept.iter().all(|image| property::text(image, property::DIGEST) == Some("d")));
    assert!(kept.iter().all(|image| !image.properties.contains_key("oci_mine")));
}
