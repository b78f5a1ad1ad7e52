use super::*;

fn pages(query: &str) -> (Vec<String>, Option<String>) {
    let mut page = Page::of(query, usize::MAX).unwrap();
    ["b", "c", "a", "b/d"].map(str::to_owned).into_iter().chain(["b".to_owned()]).for_each(|name| page.add(name));
    let (names, next) = page.finish("/v2/_catalog");
    (names, next.map(|[(_, link)]| link))
}

fn next(query: &str) -> Option<String> {
    Some(format!("</v2/_catalog?{query}>; rel=\"next\""))
}

#[test]
fn a_list_is_read_page_by_page() {
    assert_eq!(pages(""), (vec!["a".into(), "b".into(), "b/d".into(), "c".into()], None));
    assert_eq!(pages("n=2"), (vec!["a".into(), "b".into()], next("n=2&last=b")));
    assert_eq!(pages("n=2&last=b"), (vec!["b/d".into(), "c".into()], None));
    assert_eq!(pages("n=1&last=b"), (vec!["b/d".into()], next("n=1&last=b%2Fd")));
    assert_eq!(pages("n=1&last=aa"), (vec!["b".into()], next("n=1&last=b")));
    assert_eq!(pages("n=0"), (vec![], None));
    assert_eq!(pages("last=z"), (vec![], None));
    assert!(Page::of("n=-1", 9).is_err() && Page::of("n=many", 9).is_err());
    // No more than the registry gives at once.
    assert_eq!(Page::of("n=2000", 1000).unwrap().length, 1000);
}
