use super::*;

fn pages(query: &str) -> (Vec<String>, Option<String>) {
    let mut names = Page::of(query, usize::MAX).unwrap().begin();
    ["b", "c", "a", "b"].map(str::to_owned).into_iter().for_each(|name| names.add(name));
    names.finish()
}

#[test]
fn a_list_is_read_page_by_page() {
    assert_eq!(pages(""), (vec!["a".into(), "b".into(), "c".into()], None));
    assert_eq!(pages("n=2"), (vec!["a".into(), "b".into()], Some("b".into())));
    assert_eq!(pages("n=2&last=b"), (vec!["c".into()], None));
    assert_eq!(pages("n=1&last=aa"), (vec!["b".into()], Some("b".into())));
    assert_eq!(pages("n=0"), (vec![], None));
    assert_eq!(pages("last=z"), (vec![], None));
    assert!(Page::of("n=-1", 9).is_err() && Page::of("n=many", 9).is_err());
    let page = Page::of("n=2", 1000).unwrap();
    assert_eq!(page.link("/v2/_catalog", "demo/a"), "</v2/_catalog?n=2&last=demo%2Fa>; rel=\"next\"");
}
