use std::fs;

use super::*;

#[tokio::test]
async fn one_of_all_processes_has_a_lock_and_nothing_stays_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(Locks::open(directory.path().into()).unwrap());
    let processes = [open(), open(), open()];
    let inside = Arc::new(tokio::sync::Mutex::new(()));
    let work = (0..24).map(|number| {
        let (locks, inside) = (processes[number % 3].clone(), inside.clone());
        tokio::spawn(async move {
            let _held = locks.lock("one").await.unwrap();
            let _alone = inside.try_lock().expect("two have it");
            tokio::time::sleep(Duration::from_millis(2)).await;
        })
    });
    for task in work.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn other_keys_are_free_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| Locks::open(directory.path().into()).unwrap());
    let _first = one.lock("one").await.unwrap();
    let _second = other.lock("two").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), other.lock("one")).await.is_err());
}

#[test]
fn what_a_killed_process_has_left_is_removed_and_what_a_living_one_has_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (left, held) = (directory.path().join("left"), directory.path().join("held"));
    fs::write(&left, b"").unwrap();
    let living = LockFile::acquire(&held).unwrap().unwrap();
    Locks::open(directory.path().into()).unwrap();
    assert!(!left.exists() && held.exists());
    drop(living);
    assert!(!held.exists());
}
