use super::*;

#[test]
fn a_change_is_seen_by_every_process_and_is_of_its_project_only() {
    let directory = tempfile::tempdir().unwrap();
    let [ours, theirs] = [(); 2].map(|()| Changes::open(directory.path().join("changes")).unwrap());
    assert_eq!((ours.count(Some("one")), ours.count(None)), (0, 0));
    theirs.add("one");
    theirs.add("two");
    assert_eq!((ours.count(Some("one")), ours.count(Some("two")), ours.count(None)), (1, 1, 2));
}

#[test]
fn a_strange_owner_writes_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let changes = Changes::open(directory.path().join("changes")).unwrap();
    changes.add("../../etc/passwd");
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((names, changes.count(Some("../../etc/passwd"))), (vec!["changes".into()], 2));
}
